// The empty state: choose, drop or paste a picture, write a prompt, open a project; and the recent ones.

import { api } from './api.js';
import { emit, state } from './state.js';
import { flush } from './save.js';
import { $, attempt, el, toast } from './ui.js';

export const choosePicture = () => $('file').click();
const opened = (id) => emit('open', id);

/** Take a file: a picture becomes the project's (or a new project's), a project.json a new project. */
export async function take(file) {
  if (!file) return;
  const isProject = /json/.test(file.type) || /\.json$/i.test(file.name);
  const limit = state.about.limits.megabytes;
  if (!isProject && file.size > limit * 2 ** 20) { toast(`${file.name || 'the picture'} has ${Math.ceil(file.size / 2 ** 20)} MB; expected at most ${limit} MB`, 'error'); return; }
  emit('waits', isProject ? 'Opening the project…' : 'Reading the picture…');
  await attempt(async () => {
    if (isProject) return opened((await api.importFile(file)).id);
    const into = state.doc?.id;
    if (into) await flush();
    const id = into || (await api.create()).id;
    try {
      await api.put(id, 'picture', file, Boolean(into));
    } catch (error) {
      if (!into) await api.remove(id).catch(() => {});
      throw error;
    }
    return opened(id);
  });
  emit('waits', '');
}

/** A new project from a sentence. */
async function fromPrompt() {
  const prompt = $('start-prompt').value.trim();
  if (!prompt) { $('start-prompt').focus(); return; }
  await attempt(async () => {
    const { id } = await api.create();
    const doc = await api.open(id);
    await api.save(id, { ...doc.project, prompt }, doc.revision);
    emit('open', { id, draw: true });
  });
}

/** The list of projects, the newest first. */
export async function showRecent() {
  const all = (await attempt(() => api.projects())) || [];
  $('recent').hidden = !all.length;
  $('recent-list').replaceChildren(...all.slice(0, 24).map((entry) => {
    const when = new Date(entry.modified * 1000).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' });
    const away = async () => { await attempt(() => api.remove(entry.id)); showRecent(); };
    return el('li', {},
      el('button', { class: 'project', title: entry.title, onclick: () => opened(entry.id) },
        entry.thumb ? el('img', { src: entry.thumb, alt: '', draggable: 'false' }) : el('span', { class: 'no-thumb', icon: 'picture' }),
        el('span', { class: 'project-title', text: entry.title }), el('span', { class: 'faint', text: when })),
      el('button', { class: 'plain tiny remove', icon: 'trash', 'aria-label': `Delete ${entry.title}`, title: 'Delete this project', onclick: () => emit('ask', { title: 'Delete the project?', text: `“${entry.title}” and all that was rendered of it.`, yes: 'Delete', run: away }) }));
  }));
}

export function wireStart() {
  const limits = state.about.limits;
  $('start-limits').textContent = `Pictures up to ${limits.megapixels} megapixels and ${limits.megabytes} MB; they stay on this machine.`;
  $('drop').addEventListener('click', choosePicture);
  $('file').addEventListener('change', () => { take($('file').files[0]); $('file').value = ''; });
  $('start-draw').addEventListener('click', fromPrompt);
  $('start-prompt').addEventListener('keydown', (event) => { if (event.key === 'Enter') fromPrompt(); });
  addEventListener('paste', (event) => {
    const file = [...(event.clipboardData?.files || [])][0];
    if (file) { event.preventDefault(); take(file); }
  });
  let depth = 0;
  const files = (event) => [...(event.dataTransfer?.types || [])].includes('Files');
  const dragging = (by) => (event) => {
    if (!files(event)) return;
    event.preventDefault();
    depth = by ? Math.max(0, depth + by) : 0;
    $('dropping').hidden = depth === 0;
  };
  addEventListener('dragenter', dragging(1));
  addEventListener('dragleave', dragging(-1));
  addEventListener('dragover', (event) => { if (files(event)) event.preventDefault(); });
  addEventListener('drop', (event) => {
    dragging(0)(event);
    take(event.dataTransfer?.files?.[0]);
  });
}
