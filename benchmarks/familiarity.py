"""How often `denoise` warns of digits, and of pictures that a model of digits does not know: prints a table.

    python -m benchmarks.familiarity HANDOFF [--data-dir data]

HANDOFF is that of a model of MNIST; digits that its limits were not measured on have the noise of its training. The
pictures are photographs and pages of text of scikit-image, with Gaussian noise: up to 512x512 pixels of each, and 12
random squares of 64x64. Stored in 8 bits, and as floats that are not clipped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import skimage.data
import torch
from skimage.color import rgb2gray

from pipeline.config import Config
from pipeline.data.prepared import load_prepared
from pipeline.denoising.model import Model, open_model
from pipeline.noise import make_noise
from pipeline.reports.tables import markdown_table

PICTURES = [
    *("astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins", "grass", "hubble_deep_field"),
    *("immunohistochemistry", "moon", "page", "retina", "rocket", "text"),
]
VARIANCES = ("0", "0.001", "0.01", "0.1")
DIGITS, FIRST = 3000, 1000  # `export` measures the limits on the first 257
SQUARES, SIDE, LARGEST = 12, 64, 512


def share_warned(model: Model, images: list[np.ndarray], spec: str, variance: str, eight_bits: bool) -> str:
    """Of gray images in [0, 1], with noise: `15 of 16`."""
    noise, warned = make_noise(spec, variance), 0
    for number, image in enumerate(images):
        clean = torch.from_numpy(image.astype(np.float32))[None, None]
        noisy = noise(clean, torch.Generator().manual_seed(number)).numpy()
        if eight_bits:
            noisy = np.rint(255 * noisy.clip(0, 1)).astype(np.uint8)
        (denoised,) = model.denoise([noisy], noisy.dtype)
        warned += sum(model.are_strange([noisy], [denoised], noisy.dtype))
    return f"{warned:,} of {len(images):,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("handoff", type=Path)
    parser.add_argument("--data-dir", default="data")
    options = parser.parse_args()
    model = open_model(options.handoff / "model.onnx")
    trained_on = json.loads((options.handoff / "manifest.json").read_text())["trained_on"]
    test = load_prepared(Config(data_dir=options.data_dir)).test
    digits = [image[0] / 255 for image in test.images[FIRST : FIRST + DIGITS]]
    pictures, squares = [], []
    rng = np.random.default_rng(0)
    for name in PICTURES:
        picture = np.asarray(getattr(skimage.data, name)())
        picture = rgb2gray(picture) if picture.ndim == 3 else picture / np.iinfo(picture.dtype).max
        pictures.append(picture[:LARGEST, :LARGEST])
        for _ in range(SQUARES):
            top, left = (rng.integers(0, side - SIDE + 1) for side in picture.shape)
            squares.append(picture[top : top + SIDE, left : left + SIDE])
    rows = []
    for stored in ("8 bits", "floats"):
        eight = stored == "8 bits"
        rows.append(
            [stored, "of the training", share_warned(model, digits, trained_on["noise"], "0.01", eight), "", ""]
        )
        for variance in VARIANCES:
            found = [share_warned(model, kind, "gaussian", variance, eight) for kind in (pictures, squares)]
            rows.append([stored, f"variance {variance}", "", *found])
    print(
        markdown_table([["stored as", "noise", "digits warned of", "pictures warned of", "squares warned of"], *rows])
    )


if __name__ == "__main__":
    main()
