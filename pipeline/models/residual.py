"""The last step of models that predict the noise instead of the image."""

from __future__ import annotations

import torch

_LEAK = 0.05


def remove_noise(noisy: torch.Tensor, minus_noise: torch.Tensor, training: bool) -> torch.Tensor:
    """`noisy + minus_noise`, clamped to [0, 1]; in training, values outside keep 5 % of their excess.

    The best estimate of a clean pixel is never outside [0, 1]. Because the clamped value is scored, the network can
    push black and white pixels past the ends, where they become exact; the 5 % give a pixel past the wrong end a
    gradient to return by. On MNIST, variance 0.01, three epochs: 31.13 dB instead of 30.98.
    """
    image = noisy + minus_noise
    inside = image.clamp(0, 1)
    return inside + _LEAK * (image - inside) if training else inside
