"""What an image is everywhere in the pipeline: its type, its shape, its values, and how these are converted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

SMALLEST_SIDE = 11  # pixels: the window of SSIM
MAX_PSNR = 100.0  # dB; an error far below one step of 8 bits, or none at all

Images = np.ndarray | list[np.ndarray]
"""uint8 [N, C, H, W] where all images have one size, else a list of uint8 [C, H, W]; 0 is black and 255 white."""


def as_images(images: list[np.ndarray]) -> Images:
    """A list of uint8 [C, H, W], as one array if they all have one size."""
    return np.stack(images) if len({image.shape for image in images}) == 1 else images


def to_images(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [N, C, H, W] in 0...255 to float32 of the same shape in [0, 1]."""
    return pixels.float().div_(255)


def to_floats(pixels: np.ndarray) -> np.ndarray:
    """uint8 or uint16 of any shape to float32 in [0, 1]; float32 is returned unchanged."""
    if pixels.dtype == np.float32:
        return pixels
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def to_integers(images: np.ndarray, dtype: np.dtype | type = np.uint8) -> np.ndarray:
    """Floats of any shape to uint8 or uint16: clipped to [0, 1], scaled to the largest integer, halves to even.

    NaN, as a training that diverges gives it, becomes any value.
    """
    with np.errstate(invalid="ignore"):
        return np.rint(images.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


def psnr_of_error(error: np.ndarray | float) -> np.ndarray:
    """PSNR in dB of one or many mean squared errors of pixels in [0, 1]: -10 log10(error), at most `MAX_PSNR`."""
    with np.errstate(divide="ignore"):
        return np.minimum(-10 * np.log10(error), MAX_PSNR)


def describe_sizes(*parts: Images) -> str:
    """Height x width of all parts, smallest to largest: `28x28`, or `300x451 to 1080x1920`."""
    # In an array, all are as large as the first.
    images = [image for part in parts for image in (part[:1] if isinstance(part, np.ndarray) else part)]
    sizes = sorted({image.shape[1:] for image in images}, key=lambda size: (size[0] * size[1], size))
    texts = [f"{height}x{width}" for height, width in (sizes[0], sizes[-1])]
    return texts[0] if len(sizes) == 1 else " to ".join(texts)
