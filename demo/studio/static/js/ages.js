// Where the water of a pixel was, and where it will be: a flow followed for some frames, on a coarse grid.
//
// The loop has N frames. Frame t shows two pictures of the same flow: one as old as t, one as old as t - N, cross-faded
// by t / N; at t = 0 the still itself is seen. A pixel of the one is read where its water was t frames ago, of the
// other where it will be in N - t. These ways bend with the river, so they are walked, not thrown.

export const KEYS = 8; // ages between 0 and N at which the way is kept; between them it is a straight line
const GRID = 144; // cells of the grid's short side: a flow has no fine detail
const PACE = 5; // px of the flow's grid that one step of the walk may take

/** px/frame limited as option video.clamp says, in px of the full picture. */
function limited(u, v, kind) {
  if (kind === 'component') return [Math.max(-1, Math.min(1, u)), Math.max(-1, Math.min(1, v))];
  const long = Math.hypot(u, v);
  return kind === 'magnitude' && long > 1 ? [u / long, v / long] : [u, v];
}

/**
 * The ways of a flow. flow: {width, height, scale, values [2,H,W] px/frame at its size}; frames: N; speed: factor;
 * clamp: video.clamp. Returns {width, height, depth, data}: data[z] holds pairs (dx, dy), shares of the picture's
 * width and height, from a pixel to where it is read for the age (z - KEYS) / KEYS * N; age > 0 looks back.
 */
export function ways(flow, frames, speed, clamp) {
  const { width: fw, height: fh, values } = flow, plane = fw * fh, scale = flow.scale || 1;
  const ratio = Math.min(1, GRID / Math.min(fw, fh));
  const width = Math.max(2, Math.round(fw * ratio)), height = Math.max(2, Math.round(fh * ratio)), depth = 2 * KEYS + 1;
  const u = new Float32Array(plane), v = new Float32Array(plane);
  let fastest = 0;
  for (let i = 0; i < plane; i++) {
    const [a, b] = limited(values[i] / scale, values[plane + i] / scale, clamp);
    u[i] = a * scale * speed;
    v[i] = b * scale * speed;
    fastest = Math.max(fastest, Math.abs(u[i]), Math.abs(v[i]));
  }
  const per = frames / KEYS, steps = Math.min(8, Math.max(1, Math.ceil((fastest * per) / PACE))), pace = per / steps;
  const data = new Float32Array(2 * width * height * depth);
  const at = new Float32Array(2);
  const read = (x, y) => {
    const cx = Math.min(fw - 1.001, Math.max(0, x - 0.5)), cy = Math.min(fh - 1.001, Math.max(0, y - 0.5));
    const ix = cx | 0, iy = cy | 0, fx = cx - ix, fy = cy - iy, i = iy * fw + ix, right = fw > 1 ? 1 : 0, down = fh > 1 ? fw : 0;
    const a = (1 - fx) * (1 - fy), b = fx * (1 - fy), c = (1 - fx) * fy, d = fx * fy;
    at[0] = a * u[i] + b * u[i + right] + c * u[i + down] + d * u[i + down + right];
    at[1] = a * v[i] + b * v[i + right] + c * v[i + down] + d * v[i + down + right];
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const px = ((x + 0.5) * fw) / width, py = ((y + 0.5) * fh) / height;
      read(px, py);
      if (!at[0] && !at[1]) continue; // stands still
      for (const sign of [-1, 1]) {
        let qx = px, qy = py;
        for (let key = 1; key <= KEYS; key++) {
          for (let step = 0; step < steps; step++) {
            read(qx, qy); // midpoint rule
            read(qx - (sign * pace * at[0]) / 2, qy - (sign * pace * at[1]) / 2);
            qx -= sign * pace * at[0];
            qy -= sign * pace * at[1];
          }
          const o = 2 * (((KEYS + sign * key) * height + y) * width + x);
          data[o] = (qx - px) / fw;
          data[o + 1] = (qy - py) / fh;
        }
      }
    }
  }
  return { width, height, depth, data };
}

/** The mask's shares 0..255, faded inward from its edge: outside nothing changes. radius: px. */
export function feathered(mask, width, height, radius) {
  let from = Float32Array.from(mask);
  for (let pass = 0; pass < 2; pass++) from = boxed(boxed(from, width, height, radius, 1, width), height, width, radius, width, 1);
  const out = new Uint8Array(mask.length);
  for (let i = 0; i < out.length; i++) out[i] = Math.min(mask[i], Math.max(0, Math.min(255, (from[i] - 127) * 2)));
  return out;
}

/** The box that holds what is not 0, shares of the whole: [left, top, width, height]. */
export function boxOf(data, width, height) {
  let [x0, y0, x1, y1] = [width, height, 0, 0];
  for (let i = 0; i < data.length; i++) {
    if (!data[i]) continue;
    const x = i % width, y = (i - x) / width;
    [x0, y0, x1, y1] = [Math.min(x0, x), Math.min(y0, y), Math.max(x1, x + 1), Math.max(y1, y + 1)];
  }
  return x1 > x0 ? [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height] : [0, 0, 1, 1];
}

/** A running mean along one direction. n: places along it, every `step`; lines of them, every `stride`. */
function boxed(from, n, lines, radius, step, stride) {
  const out = new Float32Array(from.length);
  for (let line = 0; line < lines; line++) {
    const base = line * stride;
    let sum = 0;
    const get = (i) => from[base + Math.min(n - 1, Math.max(0, i)) * step];
    for (let i = -radius; i <= radius; i++) sum += get(i);
    for (let i = 0; i < n; i++) {
      out[base + i * step] = sum / (2 * radius + 1);
      sum += get(i + radius + 1) - get(i - radius);
    }
  }
  return out;
}
