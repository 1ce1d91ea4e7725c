// Jobs of the server: what is asked for, how far it is, what it left; and the events that tell of it.

import { api } from './api.js';
import { loadMask } from './mask.js';
import { show, play, renew } from './live.js';
import { flush, refresh, toldRevision } from './save.js';
import { edit, emit, motion, on, setOption, state, takeMotion } from './state.js';
import { $, attempt, el, reduced, say, toast } from './ui.js';

const NAMES = { run: 'Rendering', preview: 'Preview', words: 'Finding what moves', paint: 'Painting', suggest: 'Suggesting arrows' };
const jobs = new Map(); // id -> job of this project that waits or runs
const ended = new Map(); // id -> job that is done
const after = new Map(); // id -> what to do when it is done
let heardAt = 0; // when the last event came
let end = null; // closes the event stream
let wrong = ''; // why the last job failed

export const waiting = () => [...jobs.values()];
export const busy = (kind) => waiting().some((job) => job.kind === kind);

/** Listen to a project's events. */
export function listen(id) {
  end?.();
  jobs.clear();
  for (const job of state.doc.jobs || []) if (['queued', 'running'].includes(job.state)) jobs.set(job.id, job);
  end = api.events(id, (message) => {
    heardAt = Date.now();
    if (message.type === 'project') toldRevision(message.revision);
    else if (message.type === 'job') told(message.job);
  });
  display();
}

export function unlisten() {
  wrong = '';
  end?.();
  end = null;
  jobs.clear();
  display();
}

function told(job) {
  const before = jobs.get(job.id);
  if (['queued', 'running'].includes(job.state)) jobs.set(job.id, job);
  else {
    jobs.delete(job.id);
    ended.set(job.id, job);
    if (before || after.has(job.id)) finished(job);
  }
  if (before?.stage !== job.stage || before?.state !== job.state) refreshStages(job);
  display();
  emit('job', job);
}

// A stream of events can break, or a tab sleep: where nothing was heard for a while, jobs are asked for.
const SILENCE = 3000; // ms
setInterval(async () => {
  if (Date.now() - heardAt < SILENCE) return;
  for (const { id } of waiting()) {
    try {
      const job = await api.job(id);
      if (jobs.has(id)) told(job);
    } catch (error) {
      if (error.status === 404 && jobs.has(id)) told({ ...jobs.get(id), state: 'failed', error: 'the studio was started anew meanwhile; start the render again' });
    }
  }
}, 1000);

/** A stage that begins shows on its card without asking the server. */
function refreshStages(job) {
  if (job.state !== 'running' || ['preview', 'suggest'].includes(job.kind)) return;
  for (const card of state.doc.stages) {
    if (card.state === 'running') card.state = 'fresh';
    if (card.name === job.stage) card.state = 'running';
  }
  emit('stages-shown');
}

async function finished(job) {
  if (job.state === 'failed') {
    wrong = `${NAMES[job.kind] || job.kind}: ${job.error || 'it failed; the terminal has more'}`;
    toast(wrong, 'error');
  }
  if (job.state === 'cancelled') toast('Cancelled. Nothing that was made before is lost.');
  await refresh();
  const then = after.get(job.id);
  after.delete(job.id);
  if (job.state === 'done') {
    await attempt(() => then?.(job));
    if (job.kind === 'preview') showVideo('preview');
    if (job.kind === 'run' && job.stage === 's6') { showVideo('final'); toast(`Rendered in ${time(job.seconds)}`); }
  }
  emit('stages');
}

function showVideo(which) {
  show(which);
  if (!reduced()) play(true);
}

const time = (seconds) => (seconds < 60 ? `${Math.ceil(seconds)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`);

// ---------------------------------------------------------------- what can be asked for
/** Save, ask for a job, and remember what to do when it is done. */
async function start(ask, then) {
  return attempt(async () => {
    wrong = '';
    await flush();
    const { job } = await ask(state.doc.id);
    const known = jobs.get(job.id) || ended.get(job.id); // an event may be here before the answer
    after.set(job.id, then);
    if (ended.has(job.id)) finished(known);
    else if (!known) told(job);
    return job;
  });
}

export const preview = () => (busy('preview') ? undefined : start((id) => api.run(id, 's1-s6', true)));
/** stages: "s1-s6" for all; from one to the end: "s3-s6". */
export const run = (stages) => start((id) => api.run(id, stages));

/** The final video, from the first stage that is not fresh. */
export function render() {
  if (busy('run')) return undefined;
  const cards = state.doc.stages, yours = cards[3].state === 'yours'; // a mask of the hand's is in the place of s3's
  const first = cards.find((card) => ['missing', 'stale', 'running'].includes(card.state) && !(yours && card.name === 's3'));
  return run(!first || first.name === 's6' ? 's6' : `${first.name}-s6`);
}

export const draw = () => start((id) => api.run(id, 's1'), () => show('still'));
export const paintLook = () => start((id) => api.paint(id));

/** The mask of what words name. An own mask is replaced, as one step; else the stages' one counts. */
export function find(vocab, then) {
  setOption('odise.vocab', vocab);
  return start((id) => api.words(id), async () => {
    if (state.project.mask) await loadMask(state.doc.files.mask, true);
    renew();
    await then?.();
  });
}

export async function suggest(count = 6) {
  emit('waits', 'Suggesting arrows…');
  const told = await attempt(async () => {
    await flush();
    return api.suggest(state.doc.id, count);
  });
  emit('waits', '');
  if (!told) return;
  const found = takeMotion(told.motion, true);
  if (!found.arrows.length) { toast('Nothing that moves was found in the mask; draw an arrow', 'error'); return; }
  edit(() => {
    state.arrows = [...state.arrows.filter((arrow) => !arrow.suggested), ...found.arrows];
    state.anchors.push(...found.anchors);
  });
  toast(`${found.arrows.length} arrows suggested; drag, turn or delete them`);
}

export async function complete() {
  emit('waits', 'Completing the scribbles…');
  await attempt(async () => {
    await flush();
    const answer = await api.complete(state.doc.id);
    await loadMask(answer.url || answer.mask, true);
    toast('The mask is complete; brush and eraser correct it');
  });
  emit('waits', '');
}

/** From a picture to a moving one without a stroke: words find what moves, s5 suggests how. */
export const automatic = () => find(state.project.options['odise.vocab'] ?? state.about.defaults['odise.vocab'], () => suggest());

export const cancel = () => {
  const job = waiting().find((one) => one.state === 'running') || waiting()[0];
  return job && attempt(() => api.cancel(job.id));
};

// ---------------------------------------------------------------- progress and downloads
let saidAt = 0;
function display() {
  const all = waiting(), job = all.find((one) => one.state === 'running') || all[0];
  const problem = wrong || state.doc?.problem || '';
  $('failed').hidden = Boolean(job) || !problem;
  $('failed').textContent = problem;
  $('progress').hidden = !job;
  $('queue').hidden = all.length < 2;
  $('queue').textContent = `${all.length - 1} waiting`;
  $('preview').disabled = busy('preview') || !state.size;
  $('render').disabled = busy('run') || !state.doc || (!state.size && !state.project.prompt);
  if (!job) { $('progress-bar').value = 0; return; }
  const stage = state.about.stages.find((one) => one.name === job.stage);
  const words = [NAMES[job.kind] || job.kind];
  if (job.state === 'queued') words.push('waits its turn');
  else if (stage) words.push(`${stage.name} ${stage.title}`);
  if (job.eta !== null && job.eta !== undefined) words.push(`${time(job.eta)} left`);
  $('progress-text').textContent = words.join(' · ');
  $('progress-text').title = job.line || '';
  const bar = $('progress-bar');
  if (job.state === 'running' && job.total) bar.value = share(job);
  else bar.removeAttribute('value');
  if (Date.now() - saidAt > 5000) { saidAt = Date.now(); say(words.join(', ')); }
}

/** How far a job is, 0 to 1: of a run, its stages count alike. */
function share(job) {
  const part = job.done / job.total;
  if (job.kind !== 'run' || !job.stage) return part;
  const first = Math.min(...jobs_stages(job));
  return (Number(job.stage[1]) - first + part) / Math.max(1, 7 - first);
}
const began = new Map(); // job -> the first stage that was heard of
function jobs_stages(job) {
  if (!began.has(job.id)) began.set(job.id, Number(job.stage[1]));
  return [began.get(job.id)];
}

export function downloads() {
  const place = $('downloads'), videos = Object.entries(state.doc?.files.video || {});
  place.hidden = !videos.length;
  const old = state.doc?.stages[5]?.state === 'stale';
  place.replaceChildren(
    el('span', { class: 'faint', text: old ? 'Last render (older than your changes)' : 'Download' }),
    ...videos.map(([kind, url]) => el('a', { class: 'chip link', href: `${url}${url.includes('?') ? '&' : '?'}download=1`, download: `cinemagraph.${kind}`, icon: 'download', title: `Download video.${kind}` }, kind)),
  );
}
on('doc', downloads);
on('doc', display);
on('project', display);
$('preview').addEventListener('click', preview);
$('render').addEventListener('click', render);
$('cancel').addEventListener('click', cancel);
export const hasMotion = () => Boolean(motion());
