// "More": every option of the YAML, by section, with a search; changed ones are marked and can be reset.

import { option, setField, setOption, state } from './state.js';
import { el } from './ui.js';

const TITLES = { twin_extraction: 's1 picture', twin_generation: 's2 twin', odise: 's3 what moves', attn_mask: 's4 sharpened mask', optical_flow: 's5 flow', video: 's6 video', painting: 'Looks', runtime: 'Machine' };
const rows = []; // {row, entry, update}
let config = null, count = null;

/** The control of an option, by its kind. Returns {control, update}. */
function control(entry) {
  const { key, kind } = entry, id = `option-${key.replace('.', '-')}`;
  const shown = (value) => (value === null || value === undefined ? '' : Array.isArray(value) ? value.join(', ') : String(value));
  if (kind === 'boolean') {
    const box = el('input', { id, type: 'checkbox', class: 'switch', onchange: () => setOption(key, box.checked) });
    return { control: box, update: () => { box.checked = Boolean(option(key)); } };
  }
  if (kind === 'choice') {
    const list = el('select', { id, onchange: () => setOption(key, entry.choices.find((one) => String(one) === list.value)) },
      entry.choices.map((value) => el('option', { value: String(value), text: String(value) })));
    return { control: list, update: () => { list.value = String(option(key)); } };
  }
  const numeric = kind === 'number' || kind === 'integer';
  const input = el('input', { id, type: numeric ? 'number' : 'text', autocomplete: 'off', step: kind === 'integer' ? 1 : 'any', min: numeric ? entry.least : null, max: numeric ? entry.most : null,
    placeholder: entry.default === null ? 'automatic' : null });
  input.addEventListener('change', () => {
    const text = input.value.trim();
    if (!input.checkValidity()) { input.reportValidity(); return; }
    if (text === '') setOption(key, undefined);
    else if (kind === 'list') setOption(key, text.split(/[\s,]+/).map((word) => (Number.isNaN(Number(word)) ? word : Number(word))));
    else setOption(key, numeric ? Number(text) : text);
    input.value = shown(option(key));
  });
  return { control: input, update: () => { if (document.activeElement !== input) input.value = shown(option(key)); } };
}

function row(entry) {
  const { control: made, update } = control(entry), [, name] = entry.key.split('.');
  const reset = el('button', { class: 'plain tiny', icon: 'reset', title: 'Back to the configuration', 'aria-label': `Reset ${name}`, onclick: () => setOption(entry.key, undefined) });
  const line = el('div', { class: 'option' }, el('label', { for: made.id }, el('code', { text: name }), el('span', { class: 'faint', text: entry.text })), el('div', { class: 'option-control' }, made, reset));
  rows.push({ row: line, entry, update: () => {
    update();
    const changed = state.project.options[entry.key] !== undefined;
    line.classList.toggle('changed', changed);
    reset.style.visibility = changed ? '' : 'hidden';
  } });
  return line;
}

/** The whole of it, closed. */
export function buildMore() {
  const search = el('input', { type: 'search', placeholder: 'search all options', 'aria-label': 'Search options', autocomplete: 'off' });
  const sections = Map.groupBy ? Map.groupBy(state.about.options, (entry) => entry.section) : grouped(state.about.options);
  const groups = [...sections].map(([name, entries]) => el('details', { class: 'option-group', 'data-name': name }, el('summary', { text: TITLES[name] || name }), entries.map(row)));
  const none = el('p', { class: 'faint', text: 'No option of that name.', hidden: true });
  search.addEventListener('input', () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const { row: line, entry } of rows) {
      const text = `${entry.key} ${entry.text}`.toLowerCase();
      line.hidden = !words.every((word) => text.includes(word));
      found += !line.hidden;
    }
    for (const group of groups) {
      group.hidden = ![...group.querySelectorAll('.option')].some((line) => !line.hidden);
      group.open = words.length > 0 && !group.hidden;
    }
    none.hidden = found > 0;
  });
  config = el('select', { id: 'config', onchange: () => setField('config', config.value) }, state.about.configs.map(({ path, title }) => el('option', { value: path, text: title })));
  count = el('span', { class: 'count' });
  return el('details', { class: 'section more' }, el('summary', {}, el('span', { class: 'step', text: '+' }), 'More', count),
    el('div', { class: 'field' }, el('label', { for: 'config', text: 'Configuration' }), config), search, none, groups);
}

function grouped(entries) {
  const found = new Map();
  for (const entry of entries) found.set(entry.section, [...(found.get(entry.section) || []), entry]);
  return found;
}

export function showMore() {
  for (const { update } of rows) update();
  config.value = state.project.config;
  const changed = Object.keys(state.project.options).length;
  count.textContent = changed ? `${changed} changed` : '';
}
