// The mask of what may move, and the marks of freeze brush and scribbles, as bytes at a working size.
//
// mask: 255 may move.   marks: 0 none, MOVES and STILL (scribbles that a segmentation completes), FROZEN (the freeze brush).

import { did, emit, state } from './state.js';
import { $ } from './ui.js';

export const MOVES = 1, STILL = 2, FROZEN = 3;
const LONGEST = 1536; // px of the working size's longer side; a mask is an area drawn by hand, not a picture
const INK = { [MOVES]: [40, 220, 90], [STILL]: [255, 40, 40], [FROZEN]: [255, 0, 120] }; // in strokes.png, see data/strokes.py
const TINT = { mask: [255, 118, 82, 92], [MOVES]: [52, 224, 120, 225], [STILL]: [255, 62, 72, 225], [FROZEN]: [72, 172, 255, 130] };
const CONTOUR = 560; // px of the longer side at which the marching edge is traced

export const layer = { width: 0, height: 0, scale: 1, mask: null, marks: null, image: null, context: null, contour: null, moving: 0 };

/** Empty layers for a picture of that size. */
export function resetMask([width, height]) {
  layer.scale = Math.min(1, LONGEST / Math.max(width, height));
  layer.width = Math.max(1, Math.round(width * layer.scale));
  layer.height = Math.max(1, Math.round(height * layer.scale));
  layer.mask = new Uint8Array(layer.width * layer.height);
  layer.marks = new Uint8Array(layer.width * layer.height);
  const canvas = $('tint');
  canvas.width = layer.width;
  canvas.height = layer.height;
  layer.context = canvas.getContext('2d');
  layer.image = layer.context.createImageData(layer.width, layer.height);
  changed();
}

const whole = () => ({ x: 0, y: 0, w: layer.width, h: layer.height });
export const hasMask = () => layer.moving > 0;
export const hasMarks = () => Boolean(layer.marks?.some((mark) => mark));
export const hasScribbles = () => Boolean(layer.marks?.some((mark) => mark === MOVES)) && layer.marks.some((mark) => mark === STILL);
export const share = () => (layer.mask ? layer.moving / layer.mask.length : 0);

// ---------------------------------------------------------------- painting
/** A stroke's piece, a round brush from a to b. a, b: px of the picture; radius likewise. Returns the box it touched. */
export function paint(kind, a, b, radius) {
  const s = layer.scale, r = Math.max(0.6, radius * s);
  const [ax, ay, bx, by] = [a[0] * s, a[1] * s, b[0] * s, b[1] * s];
  const x0 = Math.max(0, Math.floor(Math.min(ax, bx) - r)), x1 = Math.min(layer.width - 1, Math.ceil(Math.max(ax, bx) + r));
  const y0 = Math.max(0, Math.floor(Math.min(ay, by) - r)), y1 = Math.min(layer.height - 1, Math.ceil(Math.max(ay, by) + r));
  const dx = bx - ax, dy = by - ay, long = dx * dx + dy * dy || 1;
  for (let y = y0; y <= y1; y++) {
    for (let x = x0; x <= x1; x++) {
      const px = x + 0.5 - ax, py = y + 0.5 - ay;
      const t = Math.min(1, Math.max(0, (px * dx + py * dy) / long));
      const ex = px - t * dx, ey = py - t * dy;
      if (ex * ex + ey * ey <= r * r) put(kind, y * layer.width + x);
    }
  }
  const box = { x: x0, y: y0, w: Math.max(0, x1 - x0 + 1), h: Math.max(0, y1 - y0 + 1) };
  tint(box);
  return box;
}

function put(kind, i) {
  if (kind === 'brush') { layer.mask[i] = 255; if (layer.marks[i] === FROZEN) layer.marks[i] = 0; }
  else if (kind === 'eraser') { layer.mask[i] = 0; layer.marks[i] = 0; }
  else if (kind === 'freeze') { layer.mask[i] = 0; layer.marks[i] = FROZEN; }
  else layer.marks[i] = kind === 'scribble-still' ? STILL : MOVES;
}

/** Show a box of the layers. */
function tint(box) {
  if (!box.w || !box.h) return;
  const data = layer.image.data;
  for (let y = box.y; y < box.y + box.h; y++) {
    for (let x = box.x; x < box.x + box.w; x++) {
      const i = y * layer.width + x;
      const ink = layer.marks[i] ? TINT[layer.marks[i]] : layer.mask[i] ? TINT.mask : null;
      for (let c = 0; c < 4; c++) data[4 * i + c] = ink ? ink[c] : 0;
    }
  }
  layer.context.putImageData(layer.image, 0, 0, box.x, box.y, box.w, box.h);
}

const joined = (a, b) => {
  if (!a || !a.w) return b;
  if (!b.w) return a;
  const x = Math.min(a.x, b.x), y = Math.min(a.y, b.y);
  return { x, y, w: Math.max(a.x + a.w, b.x + b.w) - x, h: Math.max(a.y + a.h, b.y + b.h) - y };
};

function cut(bytes, box) {
  const out = new Uint8Array(box.w * box.h);
  for (let y = 0; y < box.h; y++) {
    const from = (box.y + y) * layer.width + box.x;
    out.set(bytes.subarray(from, from + box.w), y * box.w);
  }
  return out;
}

function paste(bytes, box, part) {
  for (let y = 0; y < box.h; y++) bytes.set(part.subarray(y * box.w, (y + 1) * box.w), (box.y + y) * layer.width + box.x);
}

/** A stroke as one step that can be undone: only the box that it touched is kept. */
export class Stroke {
  constructor(kind) {
    this.kind = kind;
    this.before = { mask: layer.mask.slice(), marks: layer.marks.slice() };
    this.box = null;
  }

  to(a, b, radius) {
    this.box = joined(this.box, paint(this.kind, a, b, radius));
  }

  cancel() {
    layer.mask.set(this.before.mask);
    layer.marks.set(this.before.marks);
    changed();
  }

  end() {
    if (this.box?.w && this.box.h) keep(this.before, this.box);
  }
}

/** Make a step of the difference to `before`, within a box. */
function keep(before, box) {
  const size = layer.mask.length;
  const old = { mask: cut(before.mask, box), marks: cut(before.marks, box) };
  const now = { mask: cut(layer.mask, box), marks: cut(layer.marks, box) };
  const touched = ['mask', 'marks'].filter((key) => old[key].some((value, i) => value !== now[key][i]));
  if (!touched.length) return;
  const what = touched.map((key) => (key === 'mask' ? 'mask' : 'strokes'));
  const put_back = (kept) => () => {
    if (layer.mask.length !== size) return; // another picture
    for (const key of touched) paste(layer[key], box, kept[key]);
    changed(box);
    emit('painted', what);
  };
  did({ undo: put_back(old), redo: put_back(now), bytes: 4 * box.w * box.h });
  changed(box);
  emit('painted', what);
}

/** Change the whole layers as one step. */
export function remake(work) {
  const before = { mask: layer.mask.slice(), marks: layer.marks.slice() };
  work(layer);
  keep(before, whole());
}

export const clearMask = () => remake(({ mask, marks }) => { mask.fill(0); marks.fill(0); });
export const invertMask = () => remake(({ mask, marks }) => {
  for (let i = 0; i < mask.length; i++) mask[i] = marks[i] === FROZEN || mask[i] ? 0 : 255;
});
export const clearScribbles = () => remake(({ marks }) => {
  for (let i = 0; i < marks.length; i++) if (marks[i] !== FROZEN) marks[i] = 0;
});

function changed(box = whole()) {
  tint(box);
  let moving = 0;
  for (let i = 0; i < layer.mask.length; i++) moving += layer.mask[i] > 0;
  layer.moving = moving;
  layer.contour = null;
  emit('mask');
}

// ---------------------------------------------------------------- pictures in and out
/** RGBA bytes of a picture, at the working size. */
async function pixels(url) {
  const picture = new Image();
  picture.src = url;
  await picture.decode();
  const canvas = new OffscreenCanvas(layer.width, layer.height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(picture, 0, 0, layer.width, layer.height);
  return context.getImageData(0, 0, layer.width, layer.height).data;
}

/** The mask in a picture. own: as a step of the hand, to be saved; else it is what the server has. */
export async function loadMask(url, own = false) {
  const data = url ? await pixels(url) : null;
  const fill = ({ mask, marks }) => {
    for (let i = 0; i < mask.length; i++) {
      mask[i] = data && data[4 * i] > 127 ? 255 : 0;
      if (mask[i] && own && marks[i] === FROZEN) mask[i] = 0;
    }
  };
  if (own) remake(fill);
  else { fill(layer); changed(); }
}

/** The marks in a strokes.png of ours, or of anybody: green or blue moves, red must not. */
export async function loadMarks(url) {
  const data = url ? await pixels(url) : null;
  for (let i = 0; i < layer.marks.length; i++) {
    const [r, g, b, a] = data ? data.subarray(4 * i, 4 * i + 4) : [0, 0, 0, 0];
    if (a < 128) layer.marks[i] = 0;
    else if (r > Math.max(g, b) + 80) layer.marks[i] = b > g + 60 ? FROZEN : STILL;
    else layer.marks[i] = Math.max(g, b) > r + 80 ? MOVES : 0;
  }
  changed();
}

/** PNG at the picture's size. ink(i): [r, g, b, a] of a place. */
async function png(ink) {
  const small = new OffscreenCanvas(layer.width, layer.height), image = new ImageData(layer.width, layer.height);
  for (let i = 0; i < layer.mask.length; i++) image.data.set(ink(i), 4 * i);
  small.getContext('2d').putImageData(image, 0, 0);
  if (layer.width === state.size[0] && layer.height === state.size[1]) return small.convertToBlob({ type: 'image/png' });
  const full = new OffscreenCanvas(...state.size), context = full.getContext('2d');
  context.imageSmoothingEnabled = false; // marks keep their colours; the server takes a mask as black and white
  context.drawImage(small, 0, 0, ...state.size);
  return full.convertToBlob({ type: 'image/png' });
}

export const maskBlob = () => png((i) => (layer.mask[i] ? [255, 255, 255, 255] : [0, 0, 0, 255]));
export const marksBlob = () => png((i) => (layer.marks[i] ? [...INK[layer.marks[i]], 255] : [0, 0, 0, 0]));

/** The mask as shares 0..255, at another size. */
export function maskAt(width, height) {
  const canvas = new OffscreenCanvas(layer.width, layer.height), image = new ImageData(layer.width, layer.height);
  for (let i = 0; i < layer.mask.length; i++) image.data[4 * i + 3] = layer.mask[i];
  canvas.getContext('2d').putImageData(image, 0, 0);
  const small = new OffscreenCanvas(width, height), context = small.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingQuality = 'high';
  context.drawImage(canvas, 0, 0, width, height);
  const data = context.getImageData(0, 0, width, height).data, out = new Uint8Array(width * height);
  for (let i = 0; i < out.length; i++) out[i] = data[4 * i + 3];
  return out;
}

// ---------------------------------------------------------------- the marching edge
/** The mask's edge as a Path2D in px of the picture: edges between pixels, joined to rings, corners cut. */
export function contour() {
  if (layer.contour || !layer.mask) return layer.contour;
  const step = Math.max(1, Math.ceil(Math.max(layer.width, layer.height) / CONTOUR));
  const w = Math.ceil(layer.width / step), h = Math.ceil(layer.height / step);
  const inside = (x, y) => x >= 0 && y >= 0 && x < w && y < h
    && layer.mask[Math.min(layer.height - 1, y * step + (step >> 1)) * layer.width + Math.min(layer.width - 1, x * step + (step >> 1))] > 0;
  const next = new Map(); // corner -> corners that follow it, the inside on the right
  const join = (x0, y0, x1, y1) => {
    const key = y0 * (w + 1) + x0;
    if (!next.has(key)) next.set(key, []);
    next.get(key).push(y1 * (w + 1) + x1);
  };
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      if (!inside(x, y)) continue;
      if (!inside(x, y - 1)) join(x, y, x + 1, y);
      if (!inside(x + 1, y)) join(x + 1, y, x + 1, y + 1);
      if (!inside(x, y + 1)) join(x + 1, y + 1, x, y + 1);
      if (!inside(x - 1, y)) join(x, y + 1, x, y);
    }
  }
  const path = new Path2D(), unit = step / layer.scale;
  const at = (key) => [(key % (w + 1)) * unit, Math.floor(key / (w + 1)) * unit];
  while (next.size) {
    const first = next.keys().next().value, ring = [];
    for (let key = first; next.has(key);) {
      const ways = next.get(key), to = ways.pop();
      if (!ways.length) next.delete(key);
      ring.push(at(key));
      key = to;
    }
    const middle = (i) => [0, 1].map((c) => (ring[i % ring.length][c] + ring[(i + 1) % ring.length][c]) / 2);
    path.moveTo(...middle(0));
    for (let i = 1; i <= ring.length; i++) path.quadraticCurveTo(...ring[i % ring.length], ...middle(i));
    path.closePath();
  }
  layer.contour = path;
  return path;
}
