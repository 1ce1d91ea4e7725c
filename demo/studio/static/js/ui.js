// Small things of the page that every part uses: elements, icons, toasts. Data becomes text, never markup.

export const $ = (id) => document.getElementById(id);
export const reduced = () => matchMedia('(prefers-reduced-motion: reduce)').matches;

/** An element. props: attributes, "on…" handlers, class, text; children: nodes or texts. */
export function el(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (key === 'text') made.textContent = value;
    else if (key === 'icon') made.append(icon(value));
    else if (key === 'value' || key === 'checked' || key === 'disabled' || key === 'hidden') made[key] = value;
    else made.setAttribute(key, value === true ? '' : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false && child !== ''));
  return made;
}

// 24x24, drawn with a stroke of 1.8.
const PATHS = {
  logo: 'M3 9c3.5-4.5 5.5 3 9 0s5.5 2.5 9-1M3 16c3.5-4.5 5.5 3 9 0s5.5 2.5 9-1',
  undo: 'M9 14 4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3', redo: 'm15 14 5-5-5-5M20 9H10a6 6 0 0 0 0 12h3',
  export: 'M12 4v11m0 0-4-4m4 4 4-4M5 19h14', download: 'M12 4v11m0 0-4-4m4 4 4-4M5 19h14',
  theme: 'M12 3a9 9 0 1 0 9 9 7 7 0 0 1-9-9Z', help: 'M9.2 9a3 3 0 1 1 4.3 2.7c-1 .5-1.5 1-1.5 2.1M12 17.5v.01M12 22a10 10 0 1 0 0-20 10 10 0 0 0 0 20Z',
  picture: 'M4 5h16v14H4ZM4 16l5-5 4 4 2.5-2.5L20 17M15.5 9.5v.01', minus: 'M6 12h12', plus: 'M12 6v12M6 12h12',
  play: 'M8 5.5v13l10.5-6.5Z', pause: 'M8.5 5.5v13M15.5 5.5v13', compare: 'M12 3v18M8 7 3.5 12 8 17M16 7l4.5 5-4.5 5',
  eye: 'M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12ZM12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6Z',
  select: 'm5 4 6 15 2.200-6.300L19.5 10.5Z', arrow: 'M4 19C8 19 8 10 13 9l6-1M14.5 4 19.5 8l-3.5 5',
  anchor: 'M12 8.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5Zm0 0V20.5M8 12h8M4.5 14a7.5 6.5 0 0 0 15 0',
  brush: 'M20 4c-4 1-8 5-10.5 9l2 2C15.5 12.5 19 8.5 20 4ZM8.5 14.5c-2 0-3 1.5-3 3S4.5 20 3.5 20c3.5 1 7.5 0 7-3.5',
  eraser: 'M13.5 5 19 10.5 11 18.5H7l-3-3ZM8.5 10l5.5 5.5M11 18.5h9',
  freeze: 'M12 3v18M4.200 7.5l15.600 9M19.800 7.5l-15.600 9M9.5 4.5 12 7l2.5-2.5M9.5 19.5 12 17l2.5 2.5',
  scribble: 'M3 15c2-7 5-9 6-7s-4 8-1 8 4-8 7-8 0 7 2 7 3-2 4-4',
  terminal: 'm5 8 4 4-4 4M12 16h7', dice: 'M6.5 4h11a2.5 2.5 0 0 1 2.5 2.5v11a2.5 2.5 0 0 1-2.5 2.5h-11A2.5 2.5 0 0 1 4 17.5v-11A2.5 2.5 0 0 1 6.5 4ZM9 9v.01M15 9v.01M9 15v.01M15 15v.01M12 12v.01',
  trash: 'M5 7h14M10 7V4.5h4V7M7 7l1 12.5h8L17 7', spark: 'M12 4v5M12 15v5M4 12h5M15 12h5M7 7l2 2M15 15l2 2M17 7l-2 2M9 15l-2 2',
  reset: 'M5 5v5h5M5.5 10A7.5 7.5 0 1 1 5 14', run: 'M7 5v14l11-7Z', close: 'm6 6 12 12M18 6 6 18', invert: 'M12 3a9 9 0 1 0 0 18ZM12 3a9 9 0 0 1 0 18',
  find: 'M11 17a6 6 0 1 0 0-12 6 6 0 0 0 0 12Zm4.5-1.5L20 20',
};

/** An inline SVG by name. */
export function icon(name) {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  const path = document.createElementNS(space, 'path');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', `icon icon-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  path.setAttribute('d', PATHS[name]);
  svg.append(path);
  return svg;
}

/** Put the icons into what index.html marks with data-icon. */
export function hydrate() {
  for (const place of document.querySelectorAll('[data-icon]')) place.prepend(icon(place.dataset.icon));
}

export function setIcon(place, name) {
  place.querySelector('.icon')?.replaceWith(icon(name));
}

/** A calm line that goes by itself; errors are also said aloud. */
export function toast(line, kind = 'note', action = null) {
  const text = el('span', { text: line });
  const note = el('div', { class: `toast ${kind}` }, text);
  const away = () => note.remove();
  if (action) note.append(el('button', { class: 'small', text: action.label, onclick: () => { away(); action.run(); } }));
  note.append(el('button', { class: 'plain tiny', 'aria-label': 'Dismiss', icon: 'close', onclick: away }));
  const all = $('toasts');
  for (const other of [...all.children]) if (other.firstChild.textContent === line) other.remove();
  while (all.children.length > 2) all.firstChild.remove();
  all.append(note);
  if (kind === 'error') $('alert').textContent = line;
  else say(line);
  setTimeout(away, kind === 'error' ? 12000 : 5000);
}

export const failed = (error) => toast(error.message || String(error), 'error');

/** Run something that may be refused, and tell why. */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (!error.status && !(error.status === 0)) console.error(error);
    failed(error);
    return undefined;
  }
}

/** Tell a screen reader. */
export function say(line) {
  $('live-region').textContent = line;
}

/** fn, but only when `ms` have passed without another call. */
export function debounced(fn, ms) {
  let timer = 0;
  return (...words) => {
    clearTimeout(timer);
    timer = setTimeout(() => fn(...words), ms);
  };
}

export const clamp = (x, least, most) => Math.min(most, Math.max(least, x));
export const number = (x, digits = 2) => String(Number(x.toFixed(digits)));
