// Keys, and the sheet that tells of them.

import { addArrow, choose, chosenArrow, removeChosen, setSpeed, speedOf, transformChosen } from './arrows.js';
import { preview, render } from './jobs.js';
import { play, show, live } from './live.js';
import { emit, on, redo, shortSide, state, undo } from './state.js';
import { holdSpace, PAINTS, setBrush, setTool, TOOLS } from './tools.js';
import { $, el } from './ui.js';
import { fit, zoomBy } from './view.js';

/** Play or pause; from the still, the best loop that there is. */
export function playPause() {
  if (['still', 's'].includes(state.show) || state.show.startsWith('s')) {
    const to = state.doc?.files.preview && !live.ready ? 'preview' : live.ready ? 'live' : state.doc?.files.video?.mp4 ? 'final' : null;
    if (!to) return;
    show(to);
    play(true);
  } else play(!state.playing);
}

export const toggleOverlay = () => { state.overlay = !state.overlay; emit('overlay'); };

/** Hold to see the still: the layers above the picture are hidden meanwhile. */
export const compare = (held) => $('world').classList.toggle('comparing', held);

const nudge = (dx, dy) => (event) => {
  if (!state.chosen) return false;
  const step = (event.shiftKey ? 10 : 2) * (shortSide() / 512);
  if (event.altKey && dx) {
    const turn = (dx * Math.PI) / 36, [c, s] = [Math.cos(turn), Math.sin(turn)];
    transformChosen(([x, y], [mx, my]) => [mx + c * (x - mx) - s * (y - my), my + s * (x - mx) + c * (y - my)], 'turn');
  } else if (event.altKey) transformChosen(([x, y], [mx, my]) => [mx + (x - mx) * 1.08 ** -dy, my + (y - my) * 1.08 ** -dy], 'stretch');
  else transformChosen(([x, y]) => [x + dx * step, y + dy * step], 'nudge');
  return true;
};

/** An arrow in the middle of the picture, for those who draw with keys. */
export function arrowInTheMiddle() {
  const [w, h] = state.size, half = shortSide() / 8;
  addArrow([[w / 2 - half, h / 2], [w / 2 + half, h / 2]]);
}

function nextThing(by) {
  const all = [...state.arrows.map((_, index) => ({ kind: 'arrow', index })), ...state.anchors.map((_, index) => ({ kind: 'anchor', index }))];
  if (!all.length) return false;
  const at = all.findIndex((one) => one.kind === state.chosen?.kind && one.index === state.chosen.index);
  choose(all[(at + by + all.length) % all.length]);
  return true;
}

// [key, what the sheet says, what it does; false: the key was not for us]. The sheet shows them in this order.
const onCanvas = () => document.activeElement === $('over');
const KEYS = [
  ...TOOLS.map((tool) => [tool.key, tool.label, () => setTool(tool.name), tool.title]),
  ['[', 'Smaller brush', () => setBrush(state.brush / 1.2)],
  [']', 'Larger brush', () => setBrush(state.brush * 1.2)],
  ['K', 'Play or pause', playPause],
  ['O', 'Mask and arrows on or off', toggleOverlay],
  ['\\', 'Hold: the still picture', () => compare(true)],
  ['P', 'Preview by the server', () => preview()],
  ['R', 'Render', () => render()],
  ['0', 'Fit the picture', fit],
  ['+', 'Zoom in', () => zoomBy(1.25)],
  ['-', 'Zoom out', () => zoomBy(0.8)],
  ['Enter', 'On the canvas: an arrow in the middle', () => (onCanvas() ? arrowInTheMiddle() : false)],
  ['ArrowLeft', null, nudge(-1, 0)], ['ArrowRight', null, nudge(1, 0)], ['ArrowUp', null, nudge(0, -1)], ['ArrowDown', null, nudge(0, 1)],
  ['Delete', 'Delete the chosen arrow or anchor', () => (state.chosen ? removeChosen() : false)],
  ['Backspace', null, () => (state.chosen ? removeChosen() : false)],
  [',', 'Chosen arrow: slower', () => (chosenArrow() ? setSpeed(state.chosen.index, speedOf(chosenArrow()) / 1.1) : false)],
  ['.', 'Chosen arrow: faster', () => (chosenArrow() ? setSpeed(state.chosen.index, speedOf(chosenArrow()) * 1.1) : false)],
  ['Escape', 'Let go of what is chosen', () => { if (!state.chosen) return false; choose(null); return true; }],
  ['?', 'This sheet', help],
];
const MORE = [
  ['Ctrl Z', 'Undo'], ['Ctrl Shift Z', 'Redo'], ['Space + drag', 'Move the picture (also middle button, two fingers)'],
  ['Wheel, pinch', 'Zoom around the pointer'], ['Wheel on the chosen arrow', 'Its speed'], ['Tab on the canvas', 'Next arrow or anchor'],
  ['← ↑ → ↓', 'Move what is chosen (Shift: further)'], ['Alt ← →', 'Turn the chosen arrow'], ['Alt ↑ ↓', 'Longer or shorter'],
  ['Alt with a brush', 'Brush: erase; scribble: the other colour'], ['Ctrl V', 'Paste a picture'],
];
const actions = new Map(KEYS.map(([key, , act]) => [key.length === 1 ? key.toLowerCase() : key, act]));

const typing = (place) => place.matches?.('input:not([type=range],[type=checkbox],[type=radio]), textarea, select');

addEventListener('keydown', (event) => {
  if ($('work').hidden || $('sheet').open) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'z' && !typing(event.target)) {
    event.preventDefault();
    return void (event.shiftKey ? redo() : undo());
  }
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'y' && !typing(event.target)) { event.preventDefault(); return void redo(); }
  if (event.ctrlKey || event.metaKey || typing(event.target)) return;
  const control = event.target.closest?.('button, a, input, summary, [role=radio]');
  if (event.key === ' ') {
    if (control) return;
    event.preventDefault();
    return void holdSpace(true);
  }
  if (control && (event.key === 'Enter' || (event.key.startsWith('Arrow') && !event.altKey))) return;
  if (event.key === 'Tab' && onCanvas() && state.chosen && !event.shiftKey) {
    // From the last one on, Tab leaves the canvas as everywhere else.
    const last = state.chosen.kind === 'anchor' || !state.anchors.length ? state.chosen.index === (state.chosen.kind === 'anchor' ? state.anchors : state.arrows).length - 1 : false;
    if (!last) { event.preventDefault(); nextThing(1); }
    return;
  }
  const act = actions.get(event.key.length === 1 ? event.key.toLowerCase() : event.key) || (event.key === '=' ? actions.get('+') : null);
  if (act && act(event) !== false) event.preventDefault();
});

addEventListener('keyup', (event) => {
  if (event.key === ' ') holdSpace(false);
  if (event.key === '\\') compare(false);
});
addEventListener('blur', () => { holdSpace(false); compare(false); });

/** The sheet of keys. */
export function help() {
  const row = (keys, text) => el('li', {}, el('span', { class: 'keys' }, ...keys.split(' + ').flatMap((key, i) => [i ? ' + ' : null, el('kbd', { text: key })])), el('span', { text }));
  const rows = [...KEYS.filter(([, text]) => text).map(([key, text]) => [key, text]), ...MORE];
  openSheet('Keyboard and pointer', el('ul', { class: 'key-list' }, rows.map(([key, text]) => row(key, text))));
}

/** A sheet over the page. buttons: [{label, run, primary}]; a last one closes it. */
export function openSheet(title, body, buttons = [], close = 'Close') {
  const sheet = $('sheet');
  sheet.replaceChildren(
    el('h2', { id: 'sheet-title', text: title }), body,
    el('div', { class: 'sheet-buttons' }, buttons.map(({ label, run: act, primary }) => el('button', { class: primary ? 'primary' : '', text: label, onclick: () => { sheet.close(); act(); } })),
      close && el('button', { text: close, onclick: () => sheet.close() })),
  );
  if (!sheet.open) sheet.showModal();
}
$('sheet').addEventListener('click', (event) => { if (event.target === $('sheet')) $('sheet').close(); });

on('conflict', ({ newer, mine }) => openSheet('Changed in another tab',
  el('p', { text: 'The project was saved elsewhere since you opened it here. Load the newer one, or keep what is in this tab?' }),
  [{ label: 'Load the newer', run: newer, primary: true }, { label: 'Keep mine', run: mine }], null));

export const isPaint = () => PAINTS.includes(state.tool);
