// The live preview: asks the server for the flow of the arrows whenever they change, and lets the picture run in the
// browser at once. It is approximate, and says so; the server's preview is the true one.

import { boxOf, feathered, ways } from './ages.js';
import { api } from './api.js';
import { LARGEST, make2D } from './live-2d.js';
import { makeGL } from './live-gl.js';
import { hasMask, layer, maskAt } from './mask.js';
import { flush } from './save.js';
import { emit, on, option, state } from './state.js';
import { $, debounced, reduced } from './ui.js';

const FLOW_SIDE = 256; // px of the flow that is asked for
const SHORT = 512, SHARE = 384, PICTURE = 1024; // px of the short side: what is drawn, the mask's, the picture's
const RATE = 30; // frames/s at most: more is not seen in water
const SLOW = 25; // frames/s below which the drawing gets smaller

export const live = { ready: false, kind: '', fps: 0, frames: 0, width: 0, height: 0, quality: 1, least: 0.35, line: '' };
const canvas = $('live');
let drawer = null;
let flow = null;
let asked = 0;
let box = [0, 0, 1, 1]; // where something moves: only that part of the picture is drawn, frame by frame

/** Frames in the loop, and its seconds, as the render will have them. */
export function loop() {
  const fps = option('video.fps'), seconds = option('video.seconds');
  const frames = seconds > 0 ? Math.max(2, Math.round(seconds * fps)) : option('video.n_frames');
  return { frames, fps, seconds: frames / fps };
}

/** `kind`: "2d" does without WebGL2, for those who have none and for the tests. */
function makeDrawer() {
  const only2D = new URLSearchParams(location.search).get('live') === '2d';
  drawer = (only2D ? null : makeGL(canvas)) || make2D(canvas);
  live.kind = drawer.kind;
}
canvas.addEventListener('webglcontextlost', (event) => { event.preventDefault(); drawer = null; stop(); });
canvas.addEventListener('webglcontextrestored', () => { makeDrawer(); renewPicture(); again(); });

const canHave = () => Boolean(state.doc && state.size && hasMask() && (state.arrows.length || state.doc.files.flow_color));

/** Ask for the flow, a moment after the hand rests. */
const ask = debounced(async () => {
  const number = ++asked, id = state.doc?.id;
  if (!canHave()) return stop();
  try {
    await flush();
    const answer = await api.flow(id, FLOW_SIDE);
    if (number !== asked || state.doc?.id !== id) return;
    flow = answer;
    live.line = '';
  } catch (error) {
    if (number !== asked) return;
    live.line = error.message;
    stop();
    emit('live');
    return;
  }
  again();
}, 350);

export function renew() {
  if (canHave()) ask();
  else { asked++; stop(); }
}

/** Make the ways and the mask's shares anew. */
function again() {
  if (!flow || !canHave() || !$('base').naturalWidth) return;
  if (!drawer) { makeDrawer(); renewPicture(); }
  const { frames } = loop();
  drawer.setWays(ways(flow, frames, option('video.speed'), option('video.clamp')));
  const [w, h] = state.size, ratio = Math.min(1, SHARE / Math.min(w, h), layer.scale);
  const width = Math.round(w * ratio), height = Math.round(h * ratio);
  const radius = Math.max(1, Math.round(Math.max(2 * ratio, option('video.feather') * Math.min(width, height))));
  const data = feathered(maskAt(width, height), width, height, radius);
  drawer.setShare({ width, height, data });
  box = live.kind === 'webgl2' ? boxOf(data, width, height) : [0, 0, 1, 1];
  resize();
  const first = !live.ready;
  live.ready = true;
  if (first && state.show === 'still' && !reduced()) { show('live'); play(true); }
  paint();
  emit('live');
}
const againSoon = debounced(again, 60);

function renewPicture() {
  const base = $('base');
  if (!drawer || !base.naturalWidth) return;
  const ratio = Math.min(1, PICTURE / Math.min(base.naturalWidth, base.naturalHeight));
  const small = new OffscreenCanvas(Math.max(1, Math.round(base.naturalWidth * ratio)), Math.max(1, Math.round(base.naturalHeight * ratio)));
  const context = small.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.drawImage(base, 0, 0, small.width, small.height);
  drawer.setPicture(small);
}

function resize() {
  const [w, h] = state.size, most = live.kind === 'canvas2d' ? LARGEST : SHORT;
  const ratio = Math.min(1, most / Math.min(w, h)) * live.quality;
  live.width = Math.max(1, Math.round(w * ratio));
  live.height = Math.max(1, Math.round(h * ratio));
  canvas.width = Math.max(1, Math.round(w * ratio * box[2]));
  canvas.height = Math.max(1, Math.round(h * ratio * box[3]));
  ['left', 'top', 'width', 'height'].forEach((side, i) => { canvas.style[side] = `${100 * box[i]}%`; });
}

function stop() {
  if (!live.ready) return;
  live.ready = false;
  if (state.show === 'live') show('still');
  emit('live');
}

// ---------------------------------------------------------------- what the canvas shows
/** still | live | preview | final | a stage's name. */
export function show(what) {
  state.show = what;
  emit('show');
}

export function play(playing) {
  state.playing = playing;
  emit('show');
}

// ---------------------------------------------------------------- frames
let phase = 0, before = 0, drawn = 0;
const times = [];

function paint() {
  if (live.ready && drawer && !drawer.lost()) drawer.draw(phase, box);
}

function frame(now) {
  requestAnimationFrame(frame);
  if (!live.ready || !state.playing || state.show !== 'live' || document.hidden) { before = 0; times.length = 0; return; }
  if (now - drawn < 1000 / RATE - 4) return;
  const passed = before ? Math.min(0.1, (now - before) / 1000) : 0;
  before = drawn = now;
  phase = (phase + passed / loop().seconds) % 1;
  paint();
  live.frames += 1;
  times.push(now);
  if (times.length > 30) times.shift();
  if (times.length > 8) live.fps = (1000 * (times.length - 1)) / (times.at(-1) - times[0]);
  // Too slow for this machine: draw fewer pixels; the eye forgives that before it forgives a stutter.
  if (times.length === 30 && live.fps < SLOW && live.quality > live.least) {
    live.quality *= 0.85;
    times.length = 0;
    resize();
    paint();
  }
}
requestAnimationFrame(frame);

for (const name of ['mask', 'motion']) on(name, renew);
on('picture', () => { flow = null; live.ready = false; asked++; phase = 0; renewPicture(); emit('live'); });
let settings = '';
on('project', () => {
  const now = JSON.stringify(['video.speed', 'video.clamp', 'video.feather', 'video.fps', 'video.seconds', 'video.n_frames'].map(option));
  if (now !== settings && live.ready) againSoon();
  settings = now;
});
on('stages', renew);
on('repainted', () => { renewPicture(); renew(); });
