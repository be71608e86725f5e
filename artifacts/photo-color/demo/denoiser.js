// Pictures through the model: noise, tiles, strength. Nothing here knows the page.
//
// A picture is { width, height, data, isGray }, with the pixels in `data` as a canvas has them: red, green, blue and
// alpha of 8 bits each, all of them opaque.
"use strict";

const TILE = 512; // pixels: the least side of what goes through the model at once
const HALOS = 8; // in a tile at least: what is more than the halo on each side is what the work is for

// Returns `run(data, dims)`: float32 [N, C, H, W] through the model, in another thread.
function startModel() {
  const worker = new Worker("worker.mjs", { type: "module" });
  const waiting = new Map();
  let last = 0;
  worker.onmessage = ({ data: { id, data, error } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(new Error(error));
    else resolve(data);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    for (const { reject } of waiting.values()) reject(new Error(event.message || "the files in demo/ort/ cannot be read"));
    waiting.clear();
  };
  return (data, dims) => new Promise((resolve, reject) => {
    waiting.set(++last, { resolve, reject });
    worker.postMessage({ id: last, data, dims });
  });
}

// Noise with standard deviation 1, the same for the same seed and place: a small generator (mulberry32, which gives its
// n-th number without those before it), made normal by the Box-Muller transform.
function unitNoise(seed, place) {
  const uniform = (n) => {
    const state = (seed + Math.imul(n, 0x6d2b79f5)) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return Math.sqrt(-2 * Math.log(1 - uniform(2 * place + 1))) * Math.cos(2 * Math.PI * uniform(2 * place + 2));
}

// The pixels before and after denoising, like those of `picture`.
//
// `model`: { run, channels, halo }. `noise`: { sigma, seed, isClipped }. After every tile, `onTile(share, before, after,
// tile)` is called with the share of the picture that is done; if it returns false, nothing more is computed, and the
// result is null.
async function denoisePicture(model, picture, noise, onTile) {
  const { width, height, isGray } = picture;
  const before = noise.sigma ? new Uint8ClampedArray(picture.data.length) : picture.data;
  const after = new Uint8ClampedArray(picture.data.length);
  const step = Math.max(TILE, HALOS * model.halo) - 2 * model.halo;
  for (let top = 0; top < height; top += step) {
    for (let left = 0; left < width; left += step) {
      const inner = { top, left, bottom: Math.min(top + step, height), right: Math.min(left + step, width) };
      const outer = {
        top: Math.max(0, top - model.halo), left: Math.max(0, left - model.halo),
        bottom: Math.min(inner.bottom + model.halo, height), right: Math.min(inner.right + model.halo, width),
      };
      const { data, dims } = tileOf(picture, outer, model.channels, noise, before);
      paste(await model.run(data, dims), outer, inner, width, isGray, after);
      const done = (top * width + (inner.bottom - top) * inner.right) / (width * height);
      if (!onTile(done, before, after, inner)) return null;
    }
  }
  return { before, after };
}

// The model's input for a part of the picture, which is written to `before` as an image file would hold it.
function tileOf(picture, { top, left, bottom, right }, channels, noise, before) {
  const { width, height, data, isGray } = picture;
  const [rows, columns] = [bottom - top, right - left];
  // A model for gray images gets each colour as an image of its own; a model for colours gets gray as all three.
  const planes = channels === 1 && isGray ? 1 : 3;
  const input = new Float32Array(planes * rows * columns);
  for (let plane = 0; plane < planes; plane++) {
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        const pixel = y * width + x;
        let value = data[4 * pixel + plane] / 255;
        if (noise.sigma) {
          value += noise.sigma * unitNoise(noise.seed, isGray ? pixel : plane * width * height + pixel);
          before[4 * pixel + plane] = 255 * value; // clamped and rounded
          if (planes === 1) before[4 * pixel + 1] = before[4 * pixel + 2] = before[4 * pixel];
          before[4 * pixel + 3] = 255;
          if (noise.isClipped) value = Math.min(1, Math.max(0, value));
        }
        input[(plane * rows + y - top) * columns + x - left] = value;
      }
    }
  }
  return { data: input, dims: channels === 3 ? [1, 3, rows, columns] : [planes, 1, rows, columns] };
}

// Write what the model made of `outer` to the pixels of `after` inside of `inner`.
function paste(output, outer, inner, width, isGray, after) {
  const columns = outer.right - outer.left, size = (outer.bottom - outer.top) * columns;
  const planes = output.length / size;
  for (let y = inner.top; y < inner.bottom; y++) {
    for (let x = inner.left; x < inner.right; x++) {
      const from = (y - outer.top) * columns + x - outer.left, to = 4 * (y * width + x);
      if (planes === 1) after[to] = after[to + 1] = after[to + 2] = 255 * output[from];
      else if (isGray) after[to] = after[to + 1] = after[to + 2] = 85 * (output[from] + output[from + size] + output[from + 2 * size]);
      else for (let plane = 0; plane < 3; plane++) after[to + plane] = 255 * output[from + plane * size];
      after[to + 3] = 255;
    }
  }
}

// `share` of the way from one picture's pixels to another's.
function between(first, second, share) {
  if (share === 0) return first;
  if (share === 1) return second;
  const mixed = new Uint8ClampedArray(first.length);
  for (let i = 0; i < first.length; i++) mixed[i] = first[i] + share * (second[i] - first[i]);
  return mixed;
}

// What was taken away, in front of gray.
function removed(before, after) {
  const difference = new Uint8ClampedArray(before.length);
  for (let i = 0; i < before.length; i++) difference[i] = i % 4 === 3 ? 255 : before[i] - after[i] + 128;
  return difference;
}

// The correlation of neighbours in what was removed, less three standard errors of that of white noise: noise has little,
// lines and surfaces have much. 0 if next to nothing was removed.
function removedCorrelation(before, after, { width, height, isGray }) {
  let power = 0, products = 0;
  const row = 4 * width, planes = isGray ? 1 : 3, at = (i) => before[i] - after[i];
  for (let i = 0; i < before.length; i++) {
    if (i % 4 >= planes) continue;
    const here = at(i);
    power += here ** 2;
    if ((i % row) + 4 < row) products += here * at(i + 4);
    if (i + row < before.length) products += here * at(i + row);
  }
  const pairs = planes * ((width - 1) * height + width * (height - 1));
  power /= planes * width * height;
  return power > 1 && pairs ? products / pairs / power - 3 / Math.sqrt(pairs) : 0;
}

// In dB, of pixels with alpha; Infinity if they are equal.
function psnr(pixels, others) {
  let sum = 0;
  for (let i = 0; i < pixels.length; i++) sum += (pixels[i] - others[i]) ** 2;
  return -10 * Math.log10(sum / (0.75 * pixels.length) / 255 ** 2);
}
