// The model, in a thread of its own, so that the page answers while it computes.
import * as ort from "./ort/ort.wasm.bundle.min.mjs";

ort.env.wasm.numThreads = 1;
const session = ort.InferenceSession.create(new URL("../model.onnx", import.meta.url).href);

onmessage = async ({ data: { id, data, dims } }) => {
  try {
    const results = await (await session).run({ noisy: new ort.Tensor("float32", data, dims) });
    postMessage({ id, data: results.denoised.data });
  } catch (error) {
    postMessage({ id, error: String(error.message ?? error) });
  }
};
