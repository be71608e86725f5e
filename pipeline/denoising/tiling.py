"""Denoising large images in bounded memory: the model sees tiles with enough around them that no seam is visible."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

TILE = 512  # pixels: the side of what goes through a model at once; smaller images are not divided
_HALOS = 10  # in a tile at least: with halos of 104 pixels in 512, two thirds of the work would be thrown away


def tile_side(halo: int) -> int:
    """The side in pixels of tiles with a halo, a multiple of the model's strides if the halo is one."""
    return max(TILE, _HALOS * halo)


def tiled(model: Callable[[np.ndarray], np.ndarray], noisy: np.ndarray, halo: int, tile: int = TILE) -> np.ndarray:
    """`model(noisy)`, computed tile by tile where the image is larger than a tile.

    Args:
        model: maps [n, C, h, w] of any size to the same shape; the type of its output is the type of the result.
        noisy: [N, C, H, W].
        halo: pixels on each side of a tile that the model sees but whose result is dropped. If it is at least the
            model's reach (half its receptive field), and it and `tile` are multiples of the model's strides, the
            result is the same as for the whole image.
        tile: side of a tile with its halo, in pixels.
    """
    height, width = noisy.shape[-2:]
    if max(height, width) <= tile:
        return model(noisy)
    step = tile - 2 * halo
    denoised = None
    for top in range(0, height, step):
        for left in range(0, width, step):
            above, before = min(top, halo), min(left, halo)
            part = model(noisy[..., top - above : top + step + halo, left - before : left + step + halo])
            if denoised is None:
                denoised = np.empty(noisy.shape, part.dtype)
            bottom, right = min(top + step, height), min(left + step, width)
            denoised[..., top:bottom, left:right] = part[
                ..., above : above + bottom - top, before : before + right - left
            ]
    assert denoised is not None
    return denoised
