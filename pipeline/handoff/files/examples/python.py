"""Denoise an image file: python python.py noisy.png denoised.png

Needs `pip install numpy onnxruntime pillow`.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(Path(__file__).parents[1] / "model.onnx")
channels = session.get_inputs()[0].shape[1]
image = Image.open(sys.argv[1]).convert("L" if channels == 1 else "RGB")
pixels = np.asarray(image, np.float32).reshape(image.height, image.width, channels)
noisy = pixels.transpose(2, 0, 1)[np.newaxis] / 255  # [1, channels, height, width] in [0, 1]
denoised = session.run(["denoised"], {"noisy": noisy})[0]
pixels = (denoised[0] * 255).round().astype(np.uint8).transpose(1, 2, 0)
Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(sys.argv[2])
