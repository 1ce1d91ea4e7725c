// Arrows and anchors: their geometry, how they look, and what lies under a pointer.

import { edit, emit, newArrow, on, option, shortSide, state } from './state.js';
import { toScreen } from './view.js';

const FRAMES = 60; // as data/motion_file.py: an arrow without a speed shows the way of 60 frames,
const FASTEST = 256; // but never more than a 256th of the short side per frame
export const LEAST = 0.05; // px/frame, the slowest that the slider gives

export const lengthOf = (path) => path.slice(1).reduce((sum, p, i) => sum + Math.hypot(p[0] - path[i][0], p[1] - path[i][1]), 0);
export const defaultSpeed = (arrow) => Math.min(lengthOf(arrow.path) / FRAMES, shortSide() / FASTEST);
export const speedOf = (arrow) => arrow.speed || defaultSpeed(arrow);
export const fastest = () => Math.max(2, Math.round(shortSide() / 64));

/** A line through the points without the ones that a straight line says as well (Ramer, Douglas, Peucker). */
export function simplified(points, tolerance) {
  if (points.length < 3) return points;
  const [a, b] = [points[0], points.at(-1)], long = Math.hypot(b[0] - a[0], b[1] - a[1]);
  let worst = 0, at = 0;
  points.forEach(([x, y], i) => {
    const off = long < 1e-6 ? Math.hypot(x - a[0], y - a[1]) : Math.abs((b[0] - a[0]) * (a[1] - y) - (a[0] - x) * (b[1] - a[1])) / long;
    if (off > worst) [worst, at] = [off, i];
  });
  if (worst <= tolerance) return [a, b];
  return [...simplified(points.slice(0, at + 1), tolerance).slice(0, -1), ...simplified(points.slice(at), tolerance)];
}

/** A smooth line through a path's points (Catmull-Rom), as points some px apart. */
function smooth(points, every = 4) {
  if (points.length === 2) {
    const [a, b] = points, n = Math.max(1, Math.round(Math.hypot(b[0] - a[0], b[1] - a[1]) / every));
    return Array.from({ length: n + 1 }, (_, i) => [a[0] + ((b[0] - a[0]) * i) / n, a[1] + ((b[1] - a[1]) * i) / n]);
  }
  const out = [points[0]];
  for (let i = 0; i + 1 < points.length; i++) {
    const [p0, p1, p2, p3] = [points[i - 1] || points[i], points[i], points[i + 1], points[i + 2] || points[i + 1]];
    const n = Math.max(1, Math.round(Math.hypot(p2[0] - p1[0], p2[1] - p1[1]) / every));
    for (let k = 1; k <= n; k++) {
      const t = k / n;
      out.push([0, 1].map((c) => 0.5 * (2 * p1[c] + (p2[c] - p0[c]) * t + (2 * p0[c] - 5 * p1[c] + 4 * p2[c] - p3[c]) * t * t
        + (3 * p1[c] - p0[c] - 3 * p2[c] + p3[c]) * t ** 3)));
    }
  }
  return out;
}

// ---------------------------------------------------------------- drawing
/** Draw all of them. time: seconds, 0 where nothing runs. */
export function drawMotion(context, time) {
  state.arrows.forEach((arrow, index) => {
    const chosen = state.chosen?.kind === 'arrow' && state.chosen.index === index;
    drawArrow(context, arrow, chosen, time);
  });
  state.anchors.forEach((anchor, index) => drawAnchor(context, toScreen(anchor), state.chosen?.kind === 'anchor' && state.chosen.index === index));
}

/** The outline of a tapered arrow along a line. */
function outline(line, width, head) {
  const n = line.length - 1, sides = [[], []];
  const tip = line[n];
  let neck = n;
  while (neck > 0 && Math.hypot(tip[0] - line[neck][0], tip[1] - line[neck][1]) < head) neck--;
  for (let i = 0; i <= neck; i++) {
    const [a, b] = [line[Math.max(0, i - 1)], line[Math.min(n, i + 1)]];
    const long = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1, half = (width / 2) * (0.22 + 0.78 * (i / Math.max(1, neck)));
    const side = [(-(b[1] - a[1]) / long) * half, ((b[0] - a[0]) / long) * half];
    sides[0].push([line[i][0] + side[0], line[i][1] + side[1]]);
    sides[1].unshift([line[i][0] - side[0], line[i][1] - side[1]]);
  }
  const back = line[neck], long = Math.hypot(tip[0] - back[0], tip[1] - back[1]) || 1;
  const along = [(tip[0] - back[0]) / long, (tip[1] - back[1]) / long], wing = head * 0.62;
  const barb = [back[0] - along[0] * head * 0.18, back[1] - along[1] * head * 0.18];
  return [...sides[0], [barb[0] - along[1] * wing, barb[1] + along[0] * wing], tip,
    [barb[0] + along[1] * wing, barb[1] - along[0] * wing], ...sides[1]];
}

function trace(context, points, close) {
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  if (close) context.closePath();
}

export function drawArrow(context, arrow, chosen, time) {
  const points = arrow.path.map(toScreen), line = smooth(points), total = lengthOf(line);
  if (total < 2) return;
  const fast = Math.min(1, speedOf(arrow) / fastest());
  const width = 5 + 5 * Math.sqrt(fast), head = Math.min(15 + 5 * Math.sqrt(fast), total * 0.7);
  context.lineJoin = 'round';
  trace(context, outline(line, width, head), true);
  context.strokeStyle = 'rgba(10, 12, 14, .6)';
  context.lineWidth = 3;
  context.setLineDash([]);
  if (arrow.suggested) {
    context.fillStyle = 'rgba(255, 255, 255, .28)';
    context.stroke();
    context.fill();
    context.strokeStyle = chosen ? '#ff9d7e' : '#ffffff';
    context.lineWidth = 1.5;
    context.setLineDash([4, 3]);
    context.stroke();
    context.setLineDash([]);
  } else {
    context.stroke();
    context.fillStyle = chosen ? '#ff8a66' : 'rgba(255, 255, 255, .96)';
    context.fill();
  }
  // Dashes run along it as fast as the water will: px/frame, 30 frames a second, at this zoom.
  const zoomed = total / Math.max(1e-6, lengthOf(arrow.path));
  const shift = time * 30 * speedOf(arrow) * Math.abs(option('video.speed')) * zoomed;
  trace(context, line.slice(0, Math.max(2, line.length - Math.ceil(head / 4))), false);
  context.strokeStyle = chosen ? 'rgba(60, 16, 4, .75)' : 'rgba(224, 84, 44, .95)';
  context.lineWidth = Math.max(1.4, width * 0.24);
  context.lineCap = 'round';
  context.setLineDash([3, 9]);
  context.lineDashOffset = -(shift % 1200);
  context.stroke();
  context.setLineDash([]);
  if (chosen) points.forEach((point, i) => handle(context, point, i === points.length - 1));
}

function handle(context, [x, y], last) {
  context.beginPath();
  context.arc(x, y, last ? 6 : 5, 0, 7);
  context.fillStyle = '#fff';
  context.strokeStyle = '#c2410c';
  context.lineWidth = 2;
  context.fill();
  context.stroke();
}

function drawAnchor(context, [x, y], chosen) {
  context.beginPath();
  context.arc(x, y, 8, 0, 7);
  context.fillStyle = chosen ? '#ff8a66' : '#ffffff';
  context.strokeStyle = 'rgba(10, 12, 14, .7)';
  context.lineWidth = 2.5;
  context.fill();
  context.stroke();
  context.beginPath();
  context.arc(x, y, 3, 0, 7);
  context.fillStyle = '#17191c';
  context.fill();
}

// ---------------------------------------------------------------- what lies there
/** What of the motion lies at a place of the stage: {kind, index, point} or null. reach: px. */
export function hit([x, y], reach) {
  const near = ([px, py]) => Math.hypot(px - x, py - y);
  const order = state.arrows.map((_, i) => i);
  if (state.chosen?.kind === 'arrow') order.push(state.chosen.index); // the chosen one is asked first
  for (const index of order.reverse()) {
    const points = state.arrows[index]?.path.map(toScreen) || [];
    const chosen = state.chosen?.kind === 'arrow' && state.chosen.index === index;
    const point = points.findIndex((p) => near(p) <= reach);
    if (point >= 0 && (chosen || point === 0 || point === points.length - 1)) return { kind: 'arrow', index, point };
  }
  const anchor = state.anchors.findLastIndex((p) => near(toScreen(p)) <= reach);
  if (anchor >= 0) return { kind: 'anchor', index: anchor };
  for (const index of order) {
    const line = smooth(state.arrows[index]?.path.map(toScreen) || [[0, 0], [0, 0]]);
    if (line.some((p) => near(p) <= reach)) return { kind: 'arrow', index, point: -1 };
  }
  return null;
}

// ---------------------------------------------------------------- changes
export function choose(chosen) {
  state.chosen = chosen;
  emit('chosen');
}

export const chosenArrow = () => (state.chosen?.kind === 'arrow' ? state.arrows[state.chosen.index] : undefined);

export function addArrow(path) {
  edit(() => state.arrows.push(newArrow(path)));
  choose({ kind: 'arrow', index: state.arrows.length - 1 });
}

export function addAnchor(point) {
  edit(() => state.anchors.push(point));
  choose({ kind: 'anchor', index: state.anchors.length - 1 });
}

export function removeChosen() {
  if (!state.chosen) return;
  const { kind, index } = state.chosen;
  edit(() => (kind === 'arrow' ? state.arrows : state.anchors).splice(index, 1));
  choose(null);
}

/** px/frame; null: from the length. */
export function setSpeed(index, speed) {
  edit(() => {
    state.arrows[index].speed = speed === null ? null : Math.round(Math.min(1000, Math.max(LEAST, speed)) * 100) / 100;
    state.arrows[index].suggested = false;
  }, `speed.${state.arrows[index].id}`);
}

/** Move, turn or stretch the chosen thing: move(point, middle) gives each point's new place, kept inside the picture. */
export function transformChosen(move, key) {
  if (!state.chosen) return;
  const { kind, index } = state.chosen;
  const inside = ([x, y]) => [Math.min(state.size[0], Math.max(0, x)), Math.min(state.size[1], Math.max(0, y))];
  edit(() => {
    if (kind === 'anchor') { state.anchors[index] = inside(move(state.anchors[index], state.anchors[index])); return; }
    const arrow = state.arrows[index], middle = [0, 1].map((c) => arrow.path.reduce((sum, p) => sum + p[c], 0) / arrow.path.length);
    arrow.path = arrow.path.map((p) => inside(move(p, middle)));
    arrow.suggested = false;
  }, `${key}.${kind}.${index}`);
}

on('motion', () => {
  const list = state.chosen?.kind === 'arrow' ? state.arrows : state.anchors;
  if (state.chosen && state.chosen.index >= list.length) choose(null);
});
