// Denoise a PNG file: node node.mjs noisy.png denoised.png
// Needs `npm install onnxruntime-web pngjs`, in this folder or one above it.

import { readFileSync, writeFileSync } from "node:fs";
import * as ort from "onnxruntime-web";
import pngjs from "pngjs";

const session = await ort.InferenceSession.create(readFileSync(new URL("../model.onnx", import.meta.url)));
const { channels } = JSON.parse(readFileSync(new URL("../manifest.json", import.meta.url)));
const image = pngjs.PNG.sync.read(readFileSync(process.argv[2])); // red, green, blue, alpha of every pixel
const size = image.width * image.height;
const pixels = Float32Array.from({ length: channels * size }, (_, i) => image.data[4 * (i % size) + Math.floor(i / size)] / 255);
const noisy = new ort.Tensor("float32", pixels, [1, channels, image.height, image.width]);
const { denoised } = await session.run({ noisy });
for (let i = 0; i < size; i++)
  for (let c = 0; c < 3; c++) image.data[4 * i + c] = Math.round(255 * denoised.data[(channels === 1 ? 0 : c) * size + i]);
writeFileSync(process.argv[3], pngjs.PNG.sync.write(image, { colorType: channels === 1 ? 0 : 2 }));
