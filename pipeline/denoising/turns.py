"""The self-ensemble: the mean of what a model makes of an image in all of its turns and flips."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

COUNT = 8  # four turns by 90 degrees, each with and without a flip
_SIDES = (-2, -1)  # the axes of height and width


def in_all_turns(model: Callable[[np.ndarray], np.ndarray], noisy: np.ndarray) -> np.ndarray:
    """The mean of `model` over the eight turns and flips of images, each turned back ("self-ensemble", Timofte 2016).

    Args:
        model: maps float32 [N, C, h, w] of any size to the same shape.
        noisy: float32 [N, C, H, W].

    Returns:
        float32 [N, C, H, W].
    """
    total = np.zeros_like(noisy)
    for quarters in range(4):
        turned, sum_turned = (np.rot90(images, quarters, _SIDES) for images in (noisy, total))  # views, not copies
        for step in (1, -1):
            sum_turned[..., ::step] += model(np.ascontiguousarray(turned[..., ::step]))
    total /= COUNT
    return total
