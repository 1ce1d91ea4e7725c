// The canvas: where the picture lies on the screen, zoom and pan, and what is drawn over it.

import { drawMotion } from './arrows.js';
import { contour, hasMask } from './mask.js';
import { emit, on, shortSide, state } from './state.js';
import { $, clamp, reduced } from './ui.js';

const SHARP = 3; // above this zoom pixels are squares
const MARGIN = 28; // px around a fitted picture
const MARCH = 12; // dashes move so many px a second

export const view = { x: 0, y: 0, zoom: 1, width: 0, height: 0 };
const over = $('over'), world = $('world'), stage = $('stage');
const context = over.getContext('2d');
let fitted = true; // follows the window until the hand zooms
let ring = null; // {x, y, kind} of the brush, in px of the stage

export const toScreen = ([x, y]) => [x * view.zoom + view.x, y * view.zoom + view.y];
export const toPicture = ([x, y]) => [(x - view.x) / view.zoom, (y - view.y) / view.zoom];
export const inPicture = ([x, y]) => [clamp(x, 0, state.size[0]), clamp(y, 0, state.size[1])];
/** A pointer event's place, in px of the stage. */
export function place(event) {
  const box = over.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function apply() {
  if (!state.size) return;
  world.style.width = `${state.size[0]}px`;
  world.style.height = `${state.size[1]}px`;
  world.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
  world.classList.toggle('sharp', view.zoom >= SHARP);
  $('zoom-level').textContent = `${Math.round(view.zoom * 100)} %`;
  redraw();
  emit('view');
}

/** The whole picture, in the middle. */
export function fit() {
  if (!state.size || !view.width) return;
  const below = document.querySelector('.transport').offsetHeight + 20; // the transport's place
  const [w, h] = state.size;
  view.zoom = Math.min((view.width - 2 * MARGIN) / w, (view.height - MARGIN - below) / h);
  view.x = (view.width - w * view.zoom) / 2;
  view.y = (view.height - below + MARGIN / 2 - h * view.zoom) / 2;
  fitted = true;
  apply();
}

/** Zoom by a factor around a place of the stage. */
export function zoomAt([x, y], factor) {
  const zoom = clamp(view.zoom * factor, 0.02, 40), ratio = zoom / view.zoom;
  view.x = x - (x - view.x) * ratio;
  view.y = y - (y - view.y) * ratio;
  view.zoom = zoom;
  fitted = false;
  apply();
}
export const zoomBy = (factor) => zoomAt([view.width / 2, view.height / 2], factor);

export function pan(dx, dy) {
  view.x = clamp(view.x + dx, 40 - state.size[0] * view.zoom, view.width - 40);
  view.y = clamp(view.y + dy, 40 - state.size[1] * view.zoom, view.height - 40);
  fitted = false;
  apply();
}

new ResizeObserver(() => {
  view.width = stage.clientWidth;
  view.height = stage.clientHeight;
  const dense = Math.min(devicePixelRatio || 1, 2);
  over.width = Math.round(view.width * dense);
  over.height = Math.round(view.height * dense);
  if (fitted) fit();
  else apply();
}).observe(stage);

// ---------------------------------------------------------------- what is drawn over the picture
export function setRing(next) {
  ring = next;
  redraw();
}

let asked = false;
export function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame((now) => {
    asked = false;
    draw(now);
  });
}

function draw(now) {
  const dense = over.width / Math.max(1, view.width);
  context.setTransform(dense, 0, 0, dense, 0, 0);
  context.clearRect(0, 0, view.width, view.height);
  if (!state.size || $('work').hidden) return;
  const march = reduced() ? 0 : now / 1000;
  if (state.overlay && looking()) {
    if (hasMask()) drawEdge(march, dense);
    context.setTransform(dense, 0, 0, dense, 0, 0);
    drawMotion(context, state.playing ? march : 0);
  }
  emit('over', context); // an arrow that is being drawn
  if (ring) drawRing();
}

/** Whether the canvas shows the work, which mask and arrows belong to; a finished loop is looked at without them. */
export const looking = () => ['still', 'live'].includes(state.show);

function drawEdge(march, dense) {
  context.setTransform(dense * view.zoom, 0, 0, dense * view.zoom, dense * view.x, dense * view.y);
  const px = 1 / view.zoom;
  context.lineWidth = 1.3 * px;
  context.strokeStyle = 'rgba(0, 0, 0, .55)';
  context.setLineDash([]);
  context.stroke(contour());
  context.strokeStyle = 'rgba(255, 255, 255, .95)';
  context.setLineDash([5 * px, 5 * px]);
  context.lineDashOffset = -march * MARCH * px;
  context.stroke(contour());
  context.setLineDash([]);
}

const RINGS = { brush: '#ff8a66', eraser: '#ffffff', freeze: '#6cb8ff', 'scribble-moves': '#4be08a', 'scribble-still': '#ff5a64' };

function drawRing() {
  const radius = Math.max(2, state.brush * shortSide() * view.zoom);
  context.beginPath();
  context.arc(ring.x, ring.y, radius, 0, 7);
  context.lineWidth = 3;
  context.strokeStyle = 'rgba(0, 0, 0, .45)';
  context.stroke();
  context.lineWidth = 1.5;
  context.strokeStyle = RINGS[ring.kind] || '#fff';
  context.stroke();
  const glow = context.createRadialGradient(ring.x, ring.y, radius * 0.3, ring.x, ring.y, radius);
  glow.addColorStop(0, `${RINGS[ring.kind]}00`);
  glow.addColorStop(1, `${RINGS[ring.kind]}30`);
  context.fillStyle = glow;
  context.fill();
}

// The edge marches and the arrows run while there is something to see of it; 15 times a second is enough.
let last = 0;
function tick(now) {
  const runs = !document.hidden && !reduced() && state.overlay && looking() && (hasMask() || (state.playing && state.arrows.length));
  if (runs && now - last > 66 && !$('work').hidden) {
    last = now;
    redraw();
  }
  requestAnimationFrame(tick);
}
requestAnimationFrame(tick);

/** Whether tint and the layers below show; the tint gives way to a running loop. */
export function showLayers() {
  const tint = $('tint');
  tint.hidden = !(state.overlay && looking());
  tint.classList.toggle('faint', state.playing && state.show !== 'still');
  redraw();
}
for (const name of ['mask', 'motion', 'project', 'tool', 'chosen', 'show', 'overlay']) on(name, showLayers);
on('picture', fit);
