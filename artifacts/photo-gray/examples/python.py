"""Denoise a picture: python python.py noisy.png denoised.png

Takes one picture of 8 bits, gray or in colour, or of 16 bits in gray, and writes its pixels, upright, and nothing else.
Black and white are those of the training images, where these have as many bits.
Needs `pip install numpy onnxruntime pillow`.
"""

import re
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps, UnidentifiedImageError

if len(sys.argv) != 3:
    sys.exit("Call it with two files: python python.py noisy.png denoised.png")
name = sys.argv[1]
session = onnxruntime.InferenceSession(Path(__file__).parents[1] / "model.onnx")
channels = session.get_inputs()[0].shape[1]
if channels not in (1, 3):
    sys.exit(
        f"This example reads gray and colour files; the model takes {channels} channels. Use onnxruntime on arrays."
    )
try:
    file = BytesIO(Path(name).read_bytes())  # of a path, Pillow would garble a TIFF file that lies on its side
    image: Image.Image = Image.open(file, formats=["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
except UnidentifiedImageError:
    sys.exit(f"{name}: it cannot be read; this example takes PNG, JPEG, TIFF, BMP and WebP files.")
except OSError as error:
    sys.exit(f"{name}: {error.strerror or error}")
if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # a photograph with previews
    sys.exit(f"{name}: it holds {getattr(image, 'n_frames', 1)} pictures; this example takes files with one.")
is_deep = image.mode.startswith("I;16")
if image.has_transparency_data:
    kind = "transparency"
elif not is_deep and re.search(";16[BLN]", str(getattr(image, "tile", ""))):  # Pillow would cut them to 8
    kind = "16 bits per colour"
else:
    kind = "" if is_deep or image.mode in ("1", "L", "P", "RGB") else f"pixels of the kind {image.mode}"
if kind:
    sys.exit(f"{name}: it has {kind}; this example takes 8 bits in gray or RGB, and 16 bits in gray.")
image = ImageOps.exif_transpose(image)
if not is_deep:
    image = image.convert("L" if image.mode in ("1", "L") else "RGB")
array = np.asarray(image).astype("uint16" if is_deep else "uint8")
pixels = np.atleast_3d(array).transpose(2, 0, 1)  # [1 or 3, height, width]
black, white = 0.0, float(np.iinfo(pixels.dtype).max)
facts = session.get_modelmeta().custom_metadata_map
if facts.get("pixel_type") == pixels.dtype.name:
    black, white = float(facts["black"]), float(facts["white"])
if pixels.max() > white:
    sys.exit(f"{name}: it has a pixel of {pixels.max()}, and white is {white:g} in the images of the training.")
noisy = (pixels.astype(np.float32) - np.float32(black)) / np.float32(white - black)
# A model of gray pictures takes colours one by one; one in colour takes gray as equal colours.
batch = noisy[:, np.newaxis] if channels == 1 else np.repeat(noisy, 3 // len(noisy), axis=0)[np.newaxis]
denoised = session.run(["denoised"], {"noisy": batch})[0].reshape(-1, *noisy.shape[1:])
denoised = denoised.mean(axis=0) if len(noisy) == 1 else denoised.transpose(1, 2, 0)
result = (denoised.clip(0, 1) * (white - black) + black).round().astype(pixels.dtype)
Image.fromarray(result).save(sys.argv[2])
