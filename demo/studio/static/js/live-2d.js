// The live preview without WebGL2: the same two looks into the picture, pixel by pixel, at a smaller size.

import { KEYS } from './ages.js';

export const LARGEST = 220; // px of the short side that a processor alone keeps up with

/** A place beyond the border, mirrored into the picture. */
const mirrored = (i, n) => Math.min(n - 1, Math.max(0, i < 0 ? -1 - i : i >= n ? 2 * n - 1 - i : i));

/** Draws on a canvas with a 2D context. */
export function make2D(canvas) {
  const context = canvas.getContext('2d');
  let source = null, share = null, ways = null, prepared = null;

  /** Picture and mask at the canvas's size. */
  function prepare() {
    const { width, height } = canvas, off = new OffscreenCanvas(width, height), to = off.getContext('2d', { willReadFrequently: true });
    to.drawImage(source, 0, 0, width, height);
    const picture = to.getImageData(0, 0, width, height).data, places = [];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const sx = Math.min(share.width - 1, Math.floor(((x + 0.5) * share.width) / width));
        const a = share.data[Math.min(share.height - 1, Math.floor(((y + 0.5) * share.height) / height)) * share.width + sx];
        if (a > 1) places.push(x, y, a);
      }
    }
    prepared = { width, height, picture, places, image: context.createImageData(width, height) };
  }

  return {
    kind: 'canvas2d',
    setPicture(next) { source = next; prepared = null; },
    setShare(next) { share = next; prepared = null; },
    setWays(next) { ways = next; },
    draw(phase) {
      if (!source || !share || !ways) return;
      if (!prepared || prepared.width !== canvas.width || prepared.height !== canvas.height) prepare();
      const { width, height, picture, places, image } = prepared, out = image.data;
      const plane = 2 * ways.width * ways.height, w = phase * phase * (3 - 2 * phase);
      const looks = [phase, phase - 1].map((age) => {
        const z = KEYS * (1 + age), below = Math.min(2 * KEYS - 1, Math.floor(z));
        return { from: below * plane, part: z - below };
      });
      for (let n = 0; n < places.length; n += 3) {
        const x = places[n], y = places[n + 1], o = 4 * (y * width + x);
        const cell = 2 * (Math.floor(((y + 0.5) * ways.height) / height) * ways.width + Math.floor(((x + 0.5) * ways.width) / width));
        let r = 0, g = 0, b = 0;
        for (let k = 0; k < 2; k++) {
          const { from, part } = looks[k], i = from + cell, weight = k ? w : 1 - w;
          const dx = ways.data[i] * (1 - part) + ways.data[i + plane] * part, dy = ways.data[i + 1] * (1 - part) + ways.data[i + plane + 1] * part;
          const px = mirrored(Math.round(x + dx * width), width), py = mirrored(Math.round(y + dy * height), height);
          const p = 4 * (py * width + px);
          r += weight * picture[p];
          g += weight * picture[p + 1];
          b += weight * picture[p + 2];
        }
        out[o] = r;
        out[o + 1] = g;
        out[o + 2] = b;
        out[o + 3] = places[n + 2];
      }
      context.putImageData(image, 0, 0);
    },
    lost: () => false,
  };
}
