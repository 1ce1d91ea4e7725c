// The right side, in the order of work: the picture, what moves, how it moves, the loop; "More" is in options.js.

import { choose, defaultSpeed, fastest, LEAST, removeChosen, setSpeed, speedOf } from './arrows.js';
import { complete, draw, find, paintLook, suggest } from './jobs.js';
import { choosePicture } from './start.js';
import { loop } from './live.js';
import { clearMask, clearScribbles, hasMask, hasScribbles, invertMask, share } from './mask.js';
import { buildMore, showMore } from './options.js';
import { edit, on, option, setField, setOption, state } from './state.js';
import { setBrush, setTool, PAINTS, scribble } from './tools.js';
import { $, clamp, debounced, el, number } from './ui.js';

const updates = []; // each brings one control up to date with the state
const say = (text) => el('p', { class: 'faint', text });
let uid = 0;

/** A labelled slider with its number. get(), set(value); shown(value): its text. */
export function slider({ label, least, most, step, get, set, shown = (x) => number(x), title = '', toSlider = (x) => x, fromSlider = (x) => x }) {
  const id = `slider-${++uid}`, out = el('output', { for: id });
  const input = el('input', { id, type: 'range', min: least, max: most, step, title });
  input.addEventListener('input', () => set(fromSlider(Number(input.value))));
  const update = () => {
    const value = get();
    if (document.activeElement !== input || fromSlider(Number(input.value)) !== value) input.value = toSlider(value);
    const text = shown(value);
    out.textContent = text;
    input.setAttribute('aria-valuetext', text);
    input.style.setProperty('--fill', `${(100 * (clamp(toSlider(value), least, most) - least)) / (most - least)}%`);
  };
  updates.push(update);
  return el('div', { class: 'slider' }, el('label', { for: id, text: label }), out, input);
}

const button = (label, icon, onclick, more = {}) => el('button', { onclick, icon, ...more }, label && el('span', { text: label }));
const section = (step, title, ...children) => el('section', { class: 'section', 'aria-label': title }, el('h2', {}, el('span', { class: 'step', text: step }), title), ...children);

// ---------------------------------------------------------------- 1 picture
function picture() {
  const thumb = el('img', { class: 'own', alt: '', hidden: true }), size = el('span', { class: 'faint' });
  const prompt = el('textarea', { id: 'prompt', rows: 2, maxlength: 2000, placeholder: 'what it shows, in a sentence' });
  prompt.addEventListener('input', () => setField('prompt', prompt.value));
  const drawIt = button('Draw', 'spark', () => draw(), { class: 'primary' });
  const seed = el('input', { id: 'seed', type: 'number', min: -1, max: 2147483647, step: 1 });
  seed.addEventListener('change', () => { if (seed.value !== '') setField('seed', Math.trunc(Number(seed.value))); });
  const dice = button('', 'dice', () => setField('seed', Math.floor(Math.random() * 1e6)), { class: 'plain', 'aria-label': 'Another seed', title: 'Another seed' });
  const looks = el('div', { class: 'looks', role: 'radiogroup', 'aria-label': 'Look' });
  const strength = slider({ label: 'Strength', least: 0, most: 1, step: 0.05, get: () => option('painting.strength'), set: (value) => { setOption('painting.strength', value); repaint(); }, shown: (x) => `${Math.round(100 * x)} %` });
  const replace = button('Replace', 'picture', choosePicture), looksTitle = el('div', { class: 'looks-title faint', text: 'Look' });
  const own = el('div', { class: 'row picture-row' }, thumb, el('div', { class: 'col' }, size, replace));
  const all = [{ name: '', title: 'As it is' }, ...state.about.looks];
  looks.append(...all.map(({ name, title }) => el('button', { role: 'radio', class: 'look-choice', 'data-look': name || 'none', onclick: () => pickLook(name) },
    el('img', { src: `/static/looks/${name || 'none'}.webp`, alt: '', draggable: 'false' }), el('span', { text: title }))));
  roving(looks);
  updates.push(() => {
    const { doc, project } = state, url = doc.files.thumb || doc.files.image;
    thumb.hidden = !url;
    if (url && thumb.getAttribute('src') !== url) thumb.src = url;
    size.textContent = state.size ? `${state.size[0]} × ${state.size[1]} px` : 'no picture yet';
    if (document.activeElement !== prompt) prompt.value = project.prompt;
    if (document.activeElement !== seed) seed.value = project.seed;
    drawIt.hidden = Boolean(project.picture);
    drawIt.disabled = !project.prompt.trim();
    looks.hidden = looksTitle.hidden = !project.picture;
    replace.lastChild.textContent = state.size ? 'Replace' : 'Choose one';
    strength.hidden = !project.picture || !project.style;
    for (const choice of looks.children) {
      const on = (choice.dataset.look === 'none' ? '' : choice.dataset.look) === project.style;
      choice.setAttribute('aria-checked', String(on));
      choice.tabIndex = on ? 0 : -1;
    }
  });
  return section('1', 'Picture', own, el('label', { for: 'prompt', text: 'Prompt' }), prompt,
    el('div', { class: 'row wrap' }, el('label', { for: 'seed', text: 'Seed' }), seed, dice, el('span', { class: 'grow' }), drawIt),
    looksTitle, looks, strength);
}

const repaint = debounced(() => { if (state.project.style && state.project.picture) paintLook(); }, 700);
function pickLook(name) {
  if (state.project.style === name) return;
  setField('style', name);
  if (name) paintLook();
}

/** Arrow keys move the choice within a group of radio buttons. */
function roving(group) {
  group.addEventListener('keydown', (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const all = [...group.querySelectorAll('[role=radio]:not(:disabled)')], at = all.indexOf(document.activeElement);
    const next = all[(at + by + all.length) % all.length];
    next.focus();
    next.click();
  });
}
export { roving };

// ---------------------------------------------------------------- 2 what moves
function moving() {
  const words = el('input', { id: 'words', type: 'text', maxlength: 1000, autocomplete: 'off', title: "';' separates classes, ',' their synonyms" });
  const go = button('Find', 'find', () => find(words.value.trim()));
  words.addEventListener('keydown', (event) => { if (event.key === 'Enter') go.click(); });
  const covered = el('span', { class: 'covered' });
  const paints = PAINTS.map((name) => el('button', { class: 'tool-chip', icon: name, 'data-tool': name, onclick: () => setTool(name) }, el('span', { text: { brush: 'Brush', eraser: 'Erase', freeze: 'Freeze', scribble: 'Scribble' }[name] })));
  const size = slider({ label: 'Brush size', least: 0, most: 1, step: 0.01, get: () => state.brush, set: setBrush, title: 'Keys [ and ]',
    toSlider: (x) => Math.log(x / 0.004) / Math.log(100), fromSlider: (x) => 0.004 * 100 ** x, shown: (x) => `${Math.max(1, Math.round(2 * x * Math.min(...(state.size || [512, 512]))))} px` });
  const colours = el('div', { class: 'segments scribbles', role: 'group', 'aria-label': 'Scribble' },
    el('button', { class: 'moves', text: 'moves', onclick: () => { scribble.still = false; show(); } }), el('button', { class: 'still', text: 'stands still', onclick: () => { scribble.still = true; show(); } }));
  const finish = button('Complete', 'spark', () => complete()), wipe = button('Wipe', 'eraser', () => clearScribbles(), { title: 'Wipe the scribbles' });
  const scribbles = el('div', { class: 'row wrap scribble-row' }, colours, finish, wipe);
  const clear = button('Clear', 'trash', () => clearMask()), invert = button('Invert', 'invert', () => invertMask());
  updates.push(() => {
    if (document.activeElement !== words) words.value = option('odise.vocab') || '';
    covered.textContent = hasMask() ? `${number(100 * share(), share() < 0.1 ? 1 : 0)} % moves` : 'nothing yet';
    for (const chip of paints) chip.setAttribute('aria-pressed', String(chip.dataset.tool === state.tool));
    scribbles.hidden = state.tool !== 'scribble' && !hasScribbles();
    finish.disabled = !hasScribbles() || !state.project.picture;
    finish.title = finish.disabled ? 'Needs a green and a red scribble on a picture of yours' : 'The mask that the scribbles stand for';
    colours.firstChild.setAttribute('aria-pressed', String(!scribble.still));
    colours.lastChild.setAttribute('aria-pressed', String(scribble.still));
    clear.disabled = invert.disabled = go.disabled = !state.size;
  });
  const made = section('2', 'What moves', el('label', { for: 'words', text: 'By word' }), el('div', { class: 'row' }, words, go),
    el('div', { class: 'chips' }, paints), size, scribbles, el('div', { class: 'row' }, clear, invert));
  made.firstChild.append(covered);
  return made;
}

// ---------------------------------------------------------------- 3 how it moves
function motion() {
  const list = el('ul', { class: 'arrows' }), empty = say('Draw an arrow along the motion (A), or let one be suggested.');
  const hintId = 'use-hint', hint = el('input', { id: hintId, type: 'checkbox', class: 'switch' });
  hint.addEventListener('change', () => setField('use_hint', hint.checked));
  const propose = button('Suggest', 'spark', () => suggest(6));
  const speed = slider({ label: 'Speed of all', least: 0.05, most: 3, step: 0.05, get: () => option('video.speed'), set: (value) => setOption('video.speed', value), shown: (x) => `× ${number(x)}` });
  const chosen = slider({ label: 'Chosen arrow', least: 0, most: 1, step: 0.005, title: 'px/frame; also the wheel over the arrow, and the keys , and .',
    get: () => (state.chosen?.kind === 'arrow' ? speedOf(state.arrows[state.chosen.index]) : LEAST), set: (value) => setSpeed(state.chosen.index, value),
    toSlider: (x) => Math.log(x / LEAST) / Math.log(fastest() / LEAST), fromSlider: (x) => LEAST * (fastest() / LEAST) ** x, shown: (x) => `${number(x)} px/frame` });
  const auto = button('From length', 'reset', () => setSpeed(state.chosen.index, null), { class: 'plain', title: 'The speed that the length says' });
  const inspector = el('div', { class: 'inspector' }, chosen, auto);
  updates.push(() => {
    empty.hidden = state.arrows.length + state.anchors.length > 0;
    list.replaceChildren(...state.arrows.map((arrow, index) => entry('arrow', index, `Arrow ${index + 1}`, `${number(speedOf(arrow))} px/frame${arrow.speed ? '' : ' · auto'}`, arrow.suggested)),
      ...state.anchors.map((_, index) => entry('anchor', index, `Anchor ${index + 1}`, 'stands still')));
    inspector.hidden = state.chosen?.kind !== 'arrow';
    if (!inspector.hidden) auto.hidden = !state.arrows[state.chosen.index].speed;
    hint.checked = state.project.use_hint;
    propose.disabled = !hasMask();
    propose.title = hasMask() ? 'Arrows from the motion that s5 sees in the picture' : 'Say first what moves';
  });
  return section('3', 'How it moves', empty, list, inspector, el('div', { class: 'row' }, propose, button('Draw arrows', 'arrow', () => setTool('arrow'))),
    el('label', { class: 'row switch-row', for: hintId }, hint, el('span', { text: 'Direction from the prompt' })), speed);
}

function entry(kind, index, name, told, suggested = false) {
  const on = state.chosen?.kind === kind && state.chosen.index === index;
  const pick = () => { choose({ kind, index }); if (state.tool !== kind) setTool('select'); };
  return el('li', { class: on ? 'on' : '' },
    el('button', { class: 'plain pick', 'aria-pressed': String(on), icon: kind, onclick: pick }, el('span', { text: name }), el('span', { class: 'faint', text: suggested ? `${told} · suggested` : told })),
    el('button', { class: 'plain tiny', icon: 'trash', 'aria-label': `Delete ${name.toLowerCase()}`, title: 'Delete', onclick: () => { choose({ kind, index }); removeChosen(); } }));
}

// ---------------------------------------------------------------- 4 loop
const QUALITIES = [[5, 'best'], [12, 'high'], [18, 'good'], [26, 'small']];
function theLoop() {
  const seconds = slider({ label: 'Length', least: 0.5, most: 10, step: 0.1, get: () => loop().seconds, shown: (x) => `${number(x, 1)} s`,
    set: (value) => edit(() => { state.project.options = { ...state.project.options, 'video.seconds': value }; }, 'option.video.seconds') });
  const fps = select('Frames/s', [12, 15, 24, 25, 30, 50, 60].map((x) => [x, String(x)]), () => option('video.fps'), (value) => setOption('video.fps', value));
  const quality = select('Quality', QUALITIES, () => option('video.quality'), (value) => setOption('video.quality', value), (x) => `quantiser ${x}`);
  const formats = el('fieldset', { class: 'formats' }, el('legend', { text: 'Formats' }), state.about.formats.map((kind) => {
    const box = el('input', { type: 'checkbox', id: `format-${kind}`, disabled: kind === 'mp4' });
    box.addEventListener('change', () => setOption('video.formats', state.about.formats.filter((one) => one === 'mp4' || (one === kind ? box.checked : option('video.formats').includes(one)))));
    updates.push(() => { box.checked = kind === 'mp4' || option('video.formats').includes(kind); });
    return el('label', { class: 'format', for: box.id }, box, el('span', { text: kind }));
  }));
  return section('4', 'Loop', seconds, el('div', { class: 'row' }, fps, quality), formats);
}

/** A labelled select. A value that is not among the choices gets an entry of its own. */
function select(label, choices, get, set, named = String) {
  const id = `select-${++uid}`, input = el('select', { id }, choices.map(([value, text]) => el('option', { value: String(value), text })));
  input.addEventListener('change', () => set(Number(input.value)));
  updates.push(() => {
    const value = String(get());
    if (![...input.options].some((one) => one.value === value)) input.append(el('option', { value, text: named(value) }));
    input.value = value;
  });
  return el('div', { class: 'field' }, el('label', { for: id, text: label }), input);
}

// ---------------------------------------------------------------- all of it
let built = false;
export function show() {
  if (!state.doc) return;
  if (!built) {
    built = true;
    $('sections').append(picture(), moving(), motion(), theLoop(), buildMore());
  }
  for (const update of updates) update();
  showMore();
}

let waits = false;
function soon() {
  if (waits) return;
  waits = true;
  requestAnimationFrame(() => { waits = false; show(); });
}
for (const name of ['doc', 'project', 'motion', 'mask', 'tool', 'chosen', 'picture']) on(name, soon);
export { defaultSpeed };
