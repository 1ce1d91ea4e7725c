// What the pointer does on the canvas: mouse, pen and fingers through pointer events.

import { addAnchor, addArrow, choose, chosenArrow, hit, setSpeed, simplified, speedOf, drawArrow } from './arrows.js';
import { Stroke } from './mask.js';
import { edit, emit, on, shortSide, state } from './state.js';
import { $, clamp, toast } from './ui.js';
import { fit, inPicture, looking, pan, place, redraw, setRing, toPicture, zoomAt, view } from './view.js';

export const TOOLS = [
  { name: 'select', label: 'Move', key: 'V', title: 'Choose, move and bend arrows; drag elsewhere to move the picture' },
  { name: 'brush', label: 'Brush', key: 'B', title: 'Paint what may move' },
  { name: 'eraser', label: 'Erase', key: 'E', title: 'Take paint away' },
  { name: 'freeze', label: 'Freeze', key: 'F', title: 'What must stand still, whatever is painted there' },
  { name: 'arrow', label: 'Arrow', key: 'A', title: 'Drag along the motion; a curve becomes a bent arrow' },
  { name: 'anchor', label: 'Anchor', key: 'N', title: 'A point that stands still' },
  { name: 'scribble', label: 'Scribble', key: 'S', title: 'Green on what moves, red (Alt, or again S) on what does not; then Complete' },
];
export const PAINTS = ['brush', 'eraser', 'freeze', 'scribble'];
export const scribble = { still: false }; // the scribble's colour

export function setTool(name) {
  if (name === 'scribble' && state.tool === 'scribble') scribble.still = !scribble.still;
  state.tool = name;
  if (!state.overlay) { state.overlay = true; emit('overlay'); }
  if (!PAINTS.includes(name)) setRing(null);
  emit('tool');
}

export function setBrush(share) {
  state.brush = clamp(share, 0.004, 0.4);
  emit('tool');
  redraw();
}

const kindOf = (event) => {
  if (state.tool !== 'scribble') return state.tool === 'brush' && event.altKey ? 'eraser' : state.tool;
  return scribble.still !== event.altKey ? 'scribble-still' : 'scribble-moves';
};

const over = $('over');
const pointers = new Map(); // id -> place; two of them zoom
let doing = null; // what the first pointer does: {move(event), up(event), cancel()}
let spaced = false; // the space bar is held: drag pans

export function holdSpace(held) {
  spaced = held;
  over.classList.toggle('grab', held);
}

// ---------------------------------------------------------------- what each tool does
function panning(event) {
  let last = place(event);
  over.classList.add('grabbing');
  return {
    move(e) { const now = place(e); pan(now[0] - last[0], now[1] - last[1]); last = now; },
    up() { over.classList.remove('grabbing'); },
    cancel() { over.classList.remove('grabbing'); },
  };
}

function painting(event) {
  const stroke = new Stroke(kindOf(event)), radius = () => state.brush * shortSide() * (event.pointerType === 'pen' ? 0.4 + 0.6 * (event.pressure || 1) : 1);
  let last = toPicture(place(event));
  stroke.to(last, last, radius());
  redraw();
  return {
    move(e) {
      for (const one of e.getCoalescedEvents?.().length ? e.getCoalescedEvents() : [e]) {
        const now = toPicture(place(one));
        stroke.to(last, now, radius());
        last = now;
      }
      redraw();
    },
    up() { stroke.end(); },
    cancel() { stroke.cancel(); },
  };
}

let sketch = null; // the arrow that is being drawn: {path}
function drawing(event) {
  const points = [inPicture(toPicture(place(event)))], reach = event.pointerType === 'touch' ? 20 : 10;
  const under = hit(place(event), reach);
  const path = () => {
    const long = points.reduce((sum, p, i) => (i ? sum + Math.hypot(p[0] - points[i - 1][0], p[1] - points[i - 1][1]) : 0), 0);
    return simplified(points, Math.max(7 / view.zoom, 0.045 * long)); // a hand's tremble is no bend
  };
  return {
    move(e) {
      const now = inPicture(toPicture(place(e))), last = points.at(-1);
      if (Math.hypot(now[0] - last[0], now[1] - last[1]) * view.zoom > 2) points.push(now);
      sketch = points.length > 1 ? { path: path(), speed: null } : null;
      redraw();
    },
    up() {
      const made = path(), [a, b] = [made[0], made.at(-1)];
      sketch = null;
      if (made.length > 1 && (made.length > 2 || Math.hypot(b[0] - a[0], b[1] - a[1]) * view.zoom >= 10)) addArrow(made);
      else if (under) choose(under);
      else { choose(null); toast('Drag along the motion to draw an arrow'); }
      redraw();
    },
    cancel() { sketch = null; redraw(); },
  };
}

function moving(event) {
  const found = hit(place(event), event.pointerType === 'touch' ? 22 : 10);
  choose(found && { kind: found.kind, index: found.index });
  if (!found) return panning(event);
  const start = toPicture(place(event)), { kind, index } = found;
  const key = `drag.${kind}.${index}.${Date.now()}`; // one drag is one step
  const before = structuredClone(kind === 'arrow' ? state.arrows[index].path : state.anchors[index]);
  const set = (value) => edit(() => {
    if (kind === 'anchor') state.anchors[index] = value;
    else Object.assign(state.arrows[index], { path: value, suggested: false });
  }, key);
  return {
    move(e) {
      const now = toPicture(place(e)), by = [now[0] - start[0], now[1] - start[1]];
      const moved = ([x, y]) => inPicture([x + by[0], y + by[1]]);
      if (kind === 'anchor') set(moved(before));
      else set(before.map((p, i) => (found.point < 0 || found.point === i ? moved(p) : p)));
    },
    up() {},
    cancel() { set(before); },
  };
}

function anchoring(event) {
  const under = hit(place(event), event.pointerType === 'touch' ? 22 : 10);
  if (under?.kind === 'anchor') return moving(event);
  return { move() {}, up(e) { addAnchor(inPicture(toPicture(place(e)))); }, cancel() {} };
}

const STARTS = { select: moving, arrow: drawing, anchor: anchoring, brush: painting, eraser: painting, freeze: painting, scribble: painting };

// ---------------------------------------------------------------- pointers
over.addEventListener('pointerdown', (event) => {
  if (!state.size) return;
  over.focus({ preventScroll: true });
  over.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, place(event));
  if (pointers.size === 2) { doing?.cancel(); doing = null; return; }
  if (pointers.size > 2) return;
  if (event.button === 1 || spaced) doing = panning(event);
  else if (event.button === 0) {
    if (state.tool !== 'select' && !looking()) emit('work');
    doing = STARTS[state.tool](event);
  }
  event.preventDefault();
});

over.addEventListener('pointermove', (event) => {
  if (!state.size) return;
  const now = place(event);
  if (PAINTS.includes(state.tool) && event.pointerType !== 'touch') setRing({ x: now[0], y: now[1], kind: kindOf(event) });
  else if (PAINTS.includes(state.tool) && doing) setRing({ x: now[0], y: now[1], kind: kindOf(event) });
  if (state.tool === 'select' && !doing) over.classList.toggle('over-arrow', Boolean(hit(now, 10)));
  if (!pointers.has(event.pointerId)) return;
  if (pointers.size === 2) {
    const [a, b] = [...pointers.entries()], other = (a[0] === event.pointerId ? b : a)[1], old = pointers.get(event.pointerId);
    const apart = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]), middle = (p) => [(p[0] + other[0]) / 2, (p[1] + other[1]) / 2];
    pan(middle(now)[0] - middle(old)[0], middle(now)[1] - middle(old)[1]);
    zoomAt(middle(now), apart(now) / Math.max(1, apart(old)));
    pointers.set(event.pointerId, now);
    return;
  }
  pointers.set(event.pointerId, now);
  doing?.move(event);
});

function ended(event, way) {
  if (!pointers.delete(event.pointerId)) return;
  doing?.[way](event);
  doing = null;
  if (event.pointerType === 'touch') setRing(null);
}
over.addEventListener('pointerup', (event) => ended(event, 'up'));
over.addEventListener('pointercancel', (event) => ended(event, 'cancel'));
over.addEventListener('pointerleave', () => { if (!doing) setRing(null); });
over.addEventListener('contextmenu', (event) => event.preventDefault());
over.addEventListener('dblclick', () => { if (state.tool === 'select') fit(); });
over.addEventListener('wheel', (event) => {
  event.preventDefault();
  if (!state.size) return;
  const at = place(event), under = hit(at, 12), arrow = chosenArrow();
  // The wheel over the chosen arrow turns its speed; everywhere else it zooms.
  if (arrow && under?.kind === 'arrow' && under.index === state.chosen.index && !event.ctrlKey) {
    setSpeed(under.index, speedOf(arrow) * Math.exp(-event.deltaY / 600));
  } else if (event.shiftKey) pan(-event.deltaY, 0);
  else zoomAt(at, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : event.ctrlKey ? 0.01 : 0.0016)));
}, { passive: false });

on('over', (context) => { if (sketch) drawArrow(context, sketch, true, 0); });
