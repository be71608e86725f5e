// Denoise a PNG file of 8 bits: node node.mjs noisy.png denoised.png
// Needs `npm install onnxruntime-web pngjs` in a folder above this one.

import { readFileSync, writeFileSync } from "node:fs";
import * as ort from "onnxruntime-web";
import pngjs from "pngjs";

const session = await ort.InferenceSession.create(readFileSync(new URL("../model.onnx", import.meta.url)));
const { channels } = JSON.parse(readFileSync(new URL("../manifest.json", import.meta.url)));
const image = pngjs.PNG.sync.read(readFileSync(process.argv[2])); // red, green, blue and alpha of each pixel
if (image.depth > 8 || image.alpha || (image.color && channels === 1)) {
  const allowed = channels === 1 ? "gray" : "gray or colour";
  console.error(`${process.argv[2]}: this example takes 8 bits in ${allowed}, without transparency.`);
  process.exit(1);
}
const size = image.width * image.height;
const noisy = new Float32Array(channels * size); // all red, then all green, then all blue; or all gray
for (let c = 0; c < channels; c++)
  for (let i = 0; i < size; i++) noisy[c * size + i] = image.data[4 * i + c] / 255;
const { denoised } = await session.run({
  noisy: new ort.Tensor("float32", noisy, [1, channels, image.height, image.width]),
});
for (let c = 0; c < 3; c++)
  for (let i = 0; i < size; i++)
    image.data[4 * i + c] = Math.round(255 * denoised.data[Math.min(c, channels - 1) * size + i]);
writeFileSync(process.argv[3], pngjs.PNG.sync.write(image, { colorType: channels === 1 ? 0 : 2 }));
