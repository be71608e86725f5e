"""Pixels that nobody sees, because they are transparent, must not matter to those that are seen."""

from __future__ import annotations

import numpy as np


def filled(pixels: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """Pixels whose fully transparent places are what is visible around them, on average.

    Args:
        pixels: [N, C, H, W], uint8, uint16 or float32.
        alpha: [N, H, W]; 0 is transparent. None if nothing is.
    """
    if alpha is None or (alpha > 0).all() or not (alpha > 0).any():
        return pixels
    visible = (alpha > 0)[:, np.newaxis]
    around = _averages(np.where(visible, pixels, 0).astype(np.float32), visible.astype(np.float32))
    if pixels.dtype.kind == "u":
        around = np.rint(around)
    return np.where(visible, pixels, around.astype(pixels.dtype))


def _averages(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Averages on a grid: at a place without any weight, of the smallest block of places around it that has some.

    Args:
        sums: float [N, C, H, W], of what is averaged.
        weights: float [N, 1, H, W], how many values each sum has.
    """
    averages = sums / np.maximum(weights, 1)
    height, width = sums.shape[-2:]
    if (weights > 0).all() or height == width == 1:
        return averages
    coarse = _averages(_halved(sums), _halved(weights))
    return np.where(weights > 0, averages, coarse.repeat(2, axis=-2).repeat(2, axis=-1)[..., :height, :width])


def _halved(grid: np.ndarray) -> np.ndarray:
    """Sums over blocks of 2x2."""
    height, width = grid.shape[-2:]
    grid = np.pad(grid, ((0, 0), (0, 0), (0, height % 2), (0, width % 2)))
    return grid[..., ::2, ::2] + grid[..., 1::2, ::2] + grid[..., ::2, 1::2] + grid[..., 1::2, 1::2]
