// Autosave: what the hand changed goes to the server a moment later, one request after the other.

import { api } from './api.js';
import { hasMask, maskBlob, hasMarks, marksBlob } from './mask.js';
import { emit, motion, on, state } from './state.js';
import { $, attempt, debounced, failed } from './ui.js';

const PAUSE = 600; // ms of rest before a change is saved
const dirty = { project: false, mask: false, strokes: false };
const counts = { project: 0, mask: 0, strokes: 0 };
let chain = Promise.resolve();
let saving = 0;
let newest = 0; // the highest revision that an event told of

export const unsaved = () => saving > 0 || Object.values(dirty).some(Boolean);

function mark(key) {
  if (!state.doc) return;
  dirty[key] = true;
  counts[key] += 1;
  show();
  later();
}

on('project', () => mark('project'));
on('motion', () => mark('project'));
on('painted', (what) => what.forEach(mark)); // a hand's change of the mask, not one that came from the server
const later = debounced(() => flush().catch(failed), PAUSE);

/** Save what is not saved yet; resolves when the server has it all. */
export function flush() {
  const id = state.doc?.id;
  chain = chain.catch(() => {}).then(() => (id && state.doc?.id === id ? save(id) : undefined));
  return chain;
}

async function save(id) {
  if (!Object.values(dirty).some(Boolean)) return;
  saving += 1;
  show();
  try {
    for (const [key, there, blob] of [['mask', hasMask, maskBlob], ['strokes', hasMarks, marksBlob]]) {
      if (!dirty[key] || !state.size) continue;
      const count = counts[key];
      const answer = there() ? await api.put(id, key, await blob()) : await api.clear(id, key);
      state.doc.revision = answer.revision;
      state.project[key] = there() ? `${key}.png` : null;
      dirty[key] = counts[key] !== count;
      dirty.project = true; // the answer tells how the stages stand now
    }
    if (dirty.project) {
      const count = counts.project;
      const answer = await api.save(id, content(), state.doc.revision);
      dirty.project = counts.project !== count;
      if (state.doc?.id === id) received(answer);
    }
  } catch (error) {
    if (error.status === 409 && error.body?.project) return void conflict(error.body);
    throw error;
  } finally {
    saving -= 1;
    show();
  }
  if (Object.values(dirty).some(Boolean)) later();
}

/** The project as it is to be saved. */
export const content = () => ({ ...state.project, motion: state.size ? motion() : state.project.motion });

/** The server's document, after a save: what the hand changes meanwhile stays. */
function received(doc) {
  state.doc = doc;
  newest = Math.max(newest, doc.revision);
  for (const key of ['picture', 'mask', 'strokes']) state.project[key] = doc.project[key];
  emit('doc', doc);
}

/** Fetch how things stand. Returns the document, or undefined where that fails. */
export async function refresh() {
  const id = state.doc?.id;
  if (!id) return undefined;
  await flush().catch(failed);
  const doc = await attempt(() => api.open(id));
  if (!doc || state.doc?.id !== id) return undefined;
  const elsewhere = doc.revision > state.doc.revision && JSON.stringify(doc.project) !== JSON.stringify(state.doc.project);
  if (elsewhere && !unsaved()) emit('elsewhere', doc);
  else received({ ...doc, revision: unsaved() ? state.doc.revision : doc.revision });
  return doc;
}

/** An event told of a revision; ours come here too. */
export function toldRevision(revision) {
  newest = Math.max(newest, revision);
  check();
}

const check = debounced(() => {
  if (!state.doc || unsaved()) return;
  if (newest > state.doc.revision) refresh();
}, 400);

/** Another tab was first: ask whose counts. */
function conflict(doc) {
  const sheet = $('sheet');
  if (sheet.open) return;
  emit('conflict', {
    newer: () => { forgetChanges(); emit('elsewhere', doc); },
    mine: () => { state.doc.revision = doc.revision; dirty.project = true; flush().catch(failed); },
  });
}

export function forgetChanges() {
  for (const key of Object.keys(dirty)) dirty[key] = false;
  newest = 0;
  show();
}

function show() {
  const place = $('saved');
  if (!state.doc) place.textContent = '';
  else place.textContent = unsaved() ? 'saving…' : 'saved';
  place.classList.toggle('quiet', !unsaved());
}
on('doc', show);

// A tab that closes has at most PAUSE ms of work not saved: send it now.
addEventListener('visibilitychange', () => { if (document.visibilityState === 'hidden') flush().catch(() => {}); });
addEventListener('beforeunload', (event) => { if (unsaved()) { flush().catch(() => {}); event.preventDefault(); } });
