"""Large images in bounded memory: a model sees tiles with enough around them that no seam can be seen."""

from __future__ import annotations

from collections.abc import Callable

import torch

TILE = 512  # pixels a side that go through a model at once; smaller images go whole


def tiled(
    model: Callable[[torch.Tensor], torch.Tensor], noisy: torch.Tensor, halo: int, tile: int = TILE
) -> torch.Tensor:
    """`model(noisy)`, computed tile by tile where the image is larger than a tile.

    Args:
        model: takes and returns float [n, C, h, w] of any size.
        noisy: float [N, C, H, W].
        halo: pixels on each side of a tile that only give it its surroundings. Where it is at least the model's reach
            (half its receptive field), and it and `tile` are multiples of the model's strides, the result is that of
            the whole image.
        tile: side of a tile with its halo, in pixels.
    """
    height, width = noisy.shape[-2:]
    step = tile - 2 * halo
    denoised = torch.empty_like(noisy)
    for top in range(0, height, step):
        for left in range(0, width, step):
            above, before = min(top, halo), min(left, halo)
            part = model(noisy[..., top - above : top + step + halo, left - before : left + step + halo])
            bottom, right = min(top + step, height), min(left + step, width)
            denoised[..., top:bottom, left:right] = part[
                ..., above : above + bottom - top, before : before + right - left
            ]
    return denoised
