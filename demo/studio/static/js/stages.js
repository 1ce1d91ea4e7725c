// The six stages as a strip of cards, and the command line that does what the page does.

import { show } from './live.js';
import { run } from './jobs.js';
import { on, state } from './state.js';
import { $, el, toast } from './ui.js';

const STATES = { missing: 'not yet', fresh: 'fresh', stale: 'out of date', yours: 'yours', running: 'running…' };
const ICONS = { s1: 'picture', s2: 'picture', s3: 'find', s4: 'invert', s5: 'arrow', s6: 'play' };
const cards = new Map(); // stage -> its card's parts

function build() {
  cards.clear();
  $('cards').replaceChildren(...state.about.stages.map((stage) => {
    const picture = el('img', { alt: '', draggable: 'false', hidden: true });
    const video = el('video', { muted: true, playsinline: true, preload: 'metadata', hidden: true, 'aria-hidden': 'true', tabindex: '-1' });
    const mark = el('span', { class: 'state' });
    const look = el('button', { class: 'look', title: stage.text, onclick: () => toggle(stage.name) },
      el('span', { class: 'thumb', icon: ICONS[stage.name] }, picture, video),
      el('span', { class: 'about' }, el('b', { text: stage.name }), el('span', { class: 'name', text: stage.title }), mark));
    const again = el('button', { class: 'plain again', icon: 'run', title: `Run from here: ${stage.name} to s6`, 'aria-label': `Run from ${stage.name} ${stage.title} to the end`,
      onclick: () => run(stage.name === 's6' ? 's6' : `${stage.name}-s6`) });
    const item = el('li', { class: 'card' }, look, again);
    cards.set(stage.name, { item, look, picture, video, mark, stage });
    return item;
  }));
}

/** Look at a stage's picture on the canvas, or go back to the work. */
function toggle(name) {
  const card = state.doc?.stages.find((one) => one.name === name);
  if (!card?.picture) { toast(`${name} has no picture yet; run it with the arrow beside it`); return; }
  if (name === 's6') { show(state.show === 'final' ? 'still' : 'final'); return; }
  show(state.show === name ? 'still' : name);
}

export function showCards() {
  if (!state.about || !state.doc) return;
  if (!cards.size) build();
  for (const { name, state: how, picture: url } of state.doc.stages) {
    const { item, look, picture, video, mark, stage } = cards.get(name);
    item.className = `card ${how}`;
    item.classList.toggle('shown', state.show === name || (name === 's6' && state.show === 'final'));
    mark.textContent = STATES[how];
    mark.title = how === 'stale' ? 'Made before your last changes; the render makes it anew' : '';
    look.setAttribute('aria-label', `${name} ${stage.title}: ${STATES[how]}`);
    look.setAttribute('aria-pressed', String(item.classList.contains('shown')));
    const clip = name === 's6', shown = clip ? video : picture;
    (clip ? picture : video).hidden = true;
    shown.hidden = !url;
    if (url && shown.getAttribute('src') !== url) shown.src = url;
  }
  $('command-text').textContent = state.doc.command;
  $('spelled-text').textContent = state.doc.motion_command;
}

for (const name of ['doc', 'stages-shown', 'show']) on(name, showCards);

for (const [button, text] of [['copy', 'command-text'], ['copy-spelled', 'spelled-text']]) {
  $(button).addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText($(text).textContent);
      toast('Copied');
    } catch {
      getSelection().selectAllChildren($(text));
      toast('Selected; press Ctrl+C');
    }
  });
}
