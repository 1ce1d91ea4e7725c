// What the page knows: the project as the server has it, what the hand has changed since, and how to take it back.
//
// Parts of the page speak through `bus`: "doc" (the server's document came), "project" (a field changed), "motion"
// (arrows or anchors), "mask" (pixels), "picture" (another base picture), "tool", "view", "show", "job", "saved".

export const state = {
  about: null, // /api/about
  doc: null, // the server's document: id, revision, stages, files, command, …
  project: null, // its project, with what the hand has changed
  size: null, // [width, height] px
  arrows: [], // {id, path: [[x, y], …] px of the picture, speed: px/frame or null, suggested: bool}
  anchors: [], // [x, y]
  chosen: null, // {kind: "arrow" | "anchor", index}
  tool: 'brush',
  brush: 0.06, // radius as a share of the short side
  overlay: true,
  show: 'still', // still | live | preview | final | a stage's name
  playing: false,
};

export const bus = new EventTarget();
export const on = (name, heard) => bus.addEventListener(name, (event) => heard(event.detail));
export const emit = (name, detail) => bus.dispatchEvent(new CustomEvent(name, { detail }));

let ids = 0;
export const newArrow = (path, speed = null, suggested = false) => ({ id: ++ids, path, speed, suggested });
export const shortSide = () => (state.size ? Math.min(...state.size) : 512);

/** An option of the project: its own value, else the configuration's. */
export function option(key) {
  const own = state.project?.options?.[key];
  return own === undefined ? state.about.defaults[key] : own;
}

/** The motion as motion.json has it, or null where nothing is drawn. */
export function motion() {
  if (!state.arrows.length && !state.anchors.length) return null;
  const kept = state.project.motion || {};
  const rounded = (points) => points.map(([x, y]) => [Math.round(x * 100) / 100, Math.round(y * 100) / 100]);
  const made = {
    version: 1,
    size: state.size,
    arrows: state.arrows.map(({ path, speed }) => ({ path: rounded(path), ...(speed ? { speed: Math.round(speed * 1e4) / 1e4 } : {}) })),
    anchors: rounded(state.anchors),
  };
  for (const key of ['speed', 'seconds', 'mask']) if (kept[key] !== undefined && kept[key] !== null) made[key] = kept[key];
  return made;
}

/** Arrows and anchors of a motion.json, brought to the picture's size. */
export function takeMotion(content, suggested = false) {
  const [w, h] = content?.size || state.size || [1, 1];
  const [sx, sy] = state.size ? [state.size[0] / w, state.size[1] / h] : [1, 1];
  const moved = ([x, y]) => [x * sx, y * sy];
  const arrows = (content?.arrows || []).map((a) => newArrow(a.path.map(moved), a.speed ? (a.speed * (sx + sy)) / 2 : null, suggested));
  return { arrows, anchors: (content?.anchors || []).map(moved) };
}

/** What a hand's work is, small enough to keep a copy of at each step. */
function snapshot() {
  const { prompt, seed, style, use_hint, options, config } = state.project;
  return structuredClone({ fields: { prompt, seed, style, use_hint, options, config }, arrows: state.arrows, anchors: state.anchors });
}

function restore(kept) {
  const { fields, arrows, anchors } = structuredClone(kept);
  Object.assign(state.project, fields);
  Object.assign(state, { arrows, anchors, chosen: null });
  emit('project');
  emit('motion');
}

// ---------------------------------------------------------------- undo and redo
const STEPS = 200;
const BYTES = 96 * 2 ** 20; // of kept mask pixels, all steps together
const MERGE = 900; // ms: a slider's movements in between are one step
const past = [];
const future = [];

/** Put a step that is already done on the pile. step: {undo(), redo(), bytes}. */
export function did(step) {
  past.push(step);
  future.length = 0;
  let bytes = past.reduce((sum, one) => sum + (one.bytes || 0), 0);
  while (past.length > STEPS || (bytes > BYTES && past.length > 1)) bytes -= past.shift().bytes || 0;
  emit('history');
}

/** Change the project or its arrows as one step. key: steps of the same key shortly after each other are one. */
export function edit(work, key = '') {
  const before = snapshot();
  work();
  const last = past.at(-1);
  const after = snapshot();
  if (JSON.stringify(before) === JSON.stringify(after)) return;
  if (key && last?.key === key && Date.now() - last.at < MERGE) {
    last.after = after;
    last.at = Date.now();
    future.length = 0;
  } else {
    const step = { key, at: Date.now(), before, after, undo: () => restore(step.before), redo: () => restore(step.after) };
    did(step);
  }
  emit('project');
  if (JSON.stringify([before.arrows, before.anchors]) !== JSON.stringify([after.arrows, after.anchors])) emit('motion');
}

export const setField = (name, value) => edit(() => { state.project[name] = value; }, `field.${name}`);

/** Set an option; undefined: back to the configuration's value. */
export function setOption(key, value) {
  edit(() => {
    const options = { ...state.project.options };
    if (value === undefined || JSON.stringify(value) === JSON.stringify(state.about.defaults[key])) delete options[key];
    else options[key] = value;
    state.project.options = options;
  }, `option.${key}`);
}

const move = (from, to, way) => () => {
  const step = from.pop();
  if (!step) return;
  step[way]();
  to.push(step);
  emit('history');
};
export const undo = move(past, future, 'undo');
export const redo = move(future, past, 'redo');
export const canUndo = () => past.length > 0;
export const canRedo = () => future.length > 0;

export function forget() {
  past.length = 0;
  future.length = 0;
  emit('history');
}
