"""Denoise an image file: python python.py noisy.png denoised.png

Of 16-bit gray images, black and white are those of the training images, which the model knows.
Needs `pip install numpy onnxruntime pillow`.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

if len(sys.argv) != 3:
    sys.exit("Call it with two files: python python.py noisy.png denoised.png")
session = onnxruntime.InferenceSession(Path(__file__).parents[1] / "model.onnx")
channels = session.get_inputs()[0].shape[1]
if channels not in (1, 3):
    sys.exit(
        f"This example reads gray and colour files; the model takes {channels} channels. Use onnxruntime on arrays."
    )
image: Image.Image = Image.open(sys.argv[1])
dtype, black, white = "uint8", 0.0, 255.0
if channels == 1 and image.mode.startswith("I;16"):
    facts = session.get_modelmeta().custom_metadata_map
    dtype, black, white = "uint16", float(facts.get("black", 0)), float(facts.get("white", 65535))
else:
    image = image.convert("L" if channels == 1 else "RGB")
pixels = np.asarray(image, np.float32).reshape(image.height, image.width, channels)
pixels = (pixels - np.float32(black)) / np.float32(white - black)
noisy = pixels.transpose(2, 0, 1)[np.newaxis]  # [1, channels, height, width] in [0, 1]
denoised = session.run(["denoised"], {"noisy": noisy})[0]
pixels = (denoised[0].clip(0, 1) * (white - black) + black).round().astype(dtype).transpose(1, 2, 0)
Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(sys.argv[2])
