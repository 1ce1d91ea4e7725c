// The page's beginning: opens and closes projects, and ties the parts together.

import { api } from './api.js';
import { automatic, draw, listen, unlisten, waiting } from './jobs.js';
import { live, loop, play, show } from './live.js';
import { layer, hasMask, hasMarks, loadMarks, loadMask, resetMask } from './mask.js';
import { roving, show as showPanels } from './panels.js';
import { flush, forgetChanges, unsaved } from './save.js';
import { arrowInTheMiddle, compare, help, openSheet, playPause, toggleOverlay } from './shortcuts.js';
import './stages.js';
import { showRecent, take, wireStart } from './start.js';
import { canRedo, canUndo, emit, forget, on, redo, state, takeMotion, undo } from './state.js';
import { PAINTS, setTool, TOOLS } from './tools.js';
import { $, attempt, el, hydrate, icon, setIcon } from './ui.js';
import { fit, view, zoomBy } from './view.js';

let base = ''; // url of the picture on the canvas
let maskFrom = ''; // url of the mask that is shown; ours, once painted

// ---------------------------------------------------------------- opening and closing
async function open(id, { drawIt = false } = {}) {
  const doc = await attempt(() => api.open(id));
  if (!doc) { history.replaceState(null, '', '/'); return home(); }
  delete document.body.dataset.open;
  if (state.doc?.id !== id) { forget(); base = ''; }
  forgetChanges();
  if (location.hash !== `#${id}`) history.pushState(null, '', `#${id}`);
  $('start').hidden = true;
  $('work').hidden = false;
  document.body.classList.add('working');
  await take_doc(doc);
  listen(id);
  document.body.dataset.open = id; // all of it is here; the tests wait for this
  if (drawIt) draw();
  if (!$('over').contains(document.activeElement)) $('over').focus({ preventScroll: true });
}

/** Take everything from a document: arrows, mask, marks. */
async function take_doc(doc) {
  Object.assign(state, { doc, project: structuredClone(doc.project), size: null, chosen: null, show: 'still', playing: false });
  await showPicture(true);
  Object.assign(state, takeMotion(doc.project.motion));
  const mask = maskUrl(doc);
  if (state.size) {
    await attempt(async () => {
      await loadMask(mask);
      if (doc.files.strokes && doc.project.strokes) await loadMarks(doc.files.strokes);
    });
  }
  maskFrom = mask;
  emit('doc', doc);
  emit('taken');
  setTool(hasMask() && !state.arrows.length ? 'arrow' : hasMask() ? 'select' : 'brush');
  emit('stages');
}

const maskUrl = (doc) => (doc.project.mask ? doc.files.own_mask : doc.files.mask) || '';
const pictureUrl = ({ files, project, stages }) => {
  if (project.style && files.image && ['fresh', 'running'].includes(stages[0].state)) return files.image;
  return (project.picture && files.picture) || files.image || '';
};

/** Bring the picture of the document onto the canvas. */
async function showPicture(whole = false) {
  const url = pictureUrl(state.doc), place = $('base');
  if (url === base && !whole) return;
  const size = state.doc.size, other = JSON.stringify(size) !== JSON.stringify(state.size);
  base = url;
  state.size = size;
  $('world').hidden = !url;
  if (!url) { place.removeAttribute('src'); resetMask([1, 1]); emit('picture'); return; }
  place.src = url;
  await place.decode().catch(() => {});
  if (whole || other || !layer.mask) resetMask(size);
  emit(whole || other ? 'picture' : 'repainted');
}

async function home() {
  await flush().catch(() => {});
  unlisten();
  state.doc = null;
  delete document.body.dataset.open;
  $('work').hidden = true;
  $('start').hidden = false;
  document.body.classList.remove('working');
  $('saved').textContent = '';
  if (location.hash) history.pushState(null, '', '/');
  await showRecent();
}

on('open', (what) => open(what.id || what, { drawIt: what.draw }));
on('elsewhere', (doc) => { forgetChanges(); forget(); take_doc(doc); });
on('ask', ({ title, text, yes, run }) => openSheet(title, el('p', { text }), [{ label: yes, run, primary: true }], 'Cancel'));

/** After a save or a job: another picture, another mask of the stages. */
on('doc', async (doc) => {
  $('export').href = api.exported(doc.id);
  $('title').textContent = state.project.prompt.trim() || 'Untitled';
  await showPicture();
  const url = maskUrl(doc);
  // A mask of the hand's is here already; one of the stages' comes from the server.
  if (url !== maskFrom && !doc.project.mask && state.size && !unsaved()) await attempt(() => loadMask(url));
  maskFrom = url;
  hints();
});

// ---------------------------------------------------------------- what the canvas shows
const SHOWS = [['still', 'Still'], ['live', 'Live'], ['preview', 'Preview'], ['final', 'Video']];
const canShow = (what) => what === 'still' || (what === 'live' && live.ready) || (what === 'preview' && Boolean(state.doc?.files.preview)) || (what === 'final' && Boolean(state.doc?.files.video?.mp4));

function display() {
  const clip = $('clip'), looked = $('looked'), files = state.doc?.files || {};
  if (['live', 'preview', 'final'].includes(state.show) && !canShow(state.show)) state.show = 'still';
  const url = state.show === 'preview' ? files.preview : state.show === 'final' ? files.video?.mp4 : '';
  clip.hidden = !url;
  if (url && clip.getAttribute('src') !== url) clip.src = url;
  if (!url) clip.pause();
  else if (state.playing) clip.play().catch(() => {});
  else clip.pause();
  const stage = state.doc?.stages.find((card) => card.name === state.show);
  looked.hidden = !stage?.picture;
  if (stage?.picture) looked.src = stage.picture;
  $('live').hidden = state.show !== 'live';
  $('approximate').hidden = state.show !== 'live';
  for (const button of $('shows').children) {
    const on = button.dataset.show === state.show;
    button.disabled = !canShow(button.dataset.show);
    button.setAttribute('aria-checked', String(on));
    button.tabIndex = on || (stage && button.dataset.show === 'still') ? 0 : -1;
  }
  const runs = state.playing && ['live', 'preview', 'final'].includes(state.show);
  setIcon($('play'), runs ? 'pause' : 'play');
  $('play').setAttribute('aria-label', runs ? 'Pause' : 'Play');
  $('play').disabled = !['live', 'preview', 'final'].some(canShow);
  $('overlay').setAttribute('aria-pressed', String(state.overlay));
  hints();
}
for (const name of ['show', 'live', 'doc', 'overlay']) on(name, display);

let blank = false; // s1 draws, and there is nothing to look at yet

// One line on the canvas says what comes next; it goes when nothing is missing.
function hints() {
  const place = $('hint'), stage = state.doc?.stages.find((card) => card.name === state.show);
  let text = '', act = null;
  if (!state.doc) text = '';
  else if (stage) text = `Looking at ${stage.name}. Click its card again to go on working.`;
  else if (!state.size) text = waiting().length ? '' : 'Write a prompt and press Draw, or drop a picture here.';
  else if (!hasMask() && hasMarks()) text = 'Green on what moves, red on what does not, then Complete.';
  else if (!hasMask()) [text, act] = ['Paint over what should move', automatic];
  else if (!state.arrows.length) text = state.doc.files.flow_color ? '' : 'Now draw an arrow along the motion (A), or press Suggest.';
  else if (live.line) text = live.line;
  if (waiting().length && act) [text, act] = ['', null];
  const drawing = state.doc && !state.size && waiting().length > 0;
  if (drawing !== blank) {
    blank = drawing;
    emit('waits', drawing ? 'Drawing the picture…' : '');
  }
  place.hidden = !text;
  place.replaceChildren(text, act ? el('button', { class: 'small', text: 'or find it for me', onclick: act }) : '');
}
for (const name of ['mask', 'motion', 'job']) on(name, hints);

on('work', () => show(live.ready ? 'live' : 'still'));
on('waits', (text) => { $('busy').hidden = !text; $('busy-text').textContent = text; });

// ---------------------------------------------------------------- the rail and the bar
function buildRail() {
  $('rail').append(...TOOLS.map((tool, i) => el('button', { class: 'tool', 'data-tool': tool.name, title: `${tool.title} (${tool.key})`, 'aria-keyshortcuts': tool.key, tabindex: i ? -1 : 0, onclick: () => setTool(tool.name) },
    icon(tool.name), el('span', { text: tool.label }))));
  $('rail').addEventListener('keydown', (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const all = [...$('rail').children];
    all[(all.indexOf(document.activeElement) + by + all.length) % all.length].focus();
  });
  $('shows').append(...SHOWS.map(([name, label]) => el('button', { role: 'radio', 'data-show': name, text: label, onclick: () => { show(name); if (name !== 'still') play(true); } })));
  roving($('shows'));
}

function showTool() {
  for (const button of $('rail').children) {
    const on = button.dataset.tool === state.tool;
    button.setAttribute('aria-pressed', String(on));
    button.tabIndex = on ? 0 : -1;
  }
  $('over').dataset.tool = state.tool;
  $('over').classList.toggle('paints', PAINTS.includes(state.tool));
}
on('tool', showTool);

const HISTORY = () => { $('undo').disabled = !canUndo(); $('redo').disabled = !canRedo(); };
on('history', HISTORY);

/** Dark or light: the system's, until the button says otherwise; the choice is kept in the browser. */
function theme(next) {
  if (next) localStorage.setItem('studio-theme', next);
  const chosen = localStorage.getItem('studio-theme') || (matchMedia('(prefers-color-scheme: light)').matches ? 'light' : 'dark');
  document.documentElement.dataset.theme = chosen;
  return chosen;
}

function wire() {
  $('home').addEventListener('click', home);
  $('undo').addEventListener('click', undo);
  $('redo').addEventListener('click', redo);
  $('help').addEventListener('click', help);
  $('theme').addEventListener('click', () => theme(theme() === 'dark' ? 'light' : 'dark'));
  $('zoom-in').addEventListener('click', () => zoomBy(1.25));
  $('zoom-out').addEventListener('click', () => zoomBy(0.8));
  $('zoom-level').addEventListener('click', fit);
  $('play').addEventListener('click', playPause);
  $('overlay').addEventListener('click', toggleOverlay);
  const hold = $('compare');
  hold.addEventListener('pointerdown', () => compare(true));
  for (const name of ['pointerup', 'pointerleave', 'blur', 'keyup']) hold.addEventListener(name, () => compare(false));
  hold.addEventListener('keydown', (event) => { if (event.key === ' ' || event.key === 'Enter') compare(true); });
  $('export').addEventListener('click', async (event) => {
    if (!unsaved()) return;
    event.preventDefault();
    await attempt(flush);
    location.href = $('export').href;
  });
  addEventListener('popstate', () => (location.hash ? open(location.hash.slice(1)) : home()));
  matchMedia('(prefers-color-scheme: light)').addEventListener('change', () => theme());
}

async function begin() {
  theme();
  hydrate();
  buildRail();
  wire();
  HISTORY();
  state.about = await attempt(() => api.about());
  if (!state.about) return;
  wireStart();
  if (/^#[a-z0-9]{8}$/.test(location.hash)) await open(location.hash.slice(1));
  else await home();
  document.body.dataset.ready = 'true';
}

// What the tests and a curious user may look at and use.
window.studio = { state, live, view, layer, loop, show, play, take, flush, unsaved, fit, arrowInTheMiddle, showPanels };
begin();
