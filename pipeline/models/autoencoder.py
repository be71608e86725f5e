"""The convolutional autoencoder of the course page: 16,385 parameters."""

from __future__ import annotations

import torch
from torch import nn


def _block(convolution: nn.Module, channels: int) -> nn.Sequential:
    # The course page puts ReLU before BatchNorm. (Its momentum of 0.01 is in the recipe.)
    return nn.Sequential(convolution, nn.ReLU(), nn.BatchNorm2d(channels))


class Autoencoder(nn.Module):
    """Encoder C-8-16-32 channels with strides 2, 2, 1; decoder 32-16-8 with two transposed convolutions, then C.

    Input: noisy images, float32 [N, C, H, W], clean pixels in [0, 1], any H and W from 1 up.
    Output: denoised images of the same shape, in (0, 1) because of the sigmoid.
    """

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            _block(nn.Conv2d(channels, 8, 3, stride=2, padding=1), 8),
            _block(nn.Conv2d(8, 16, 3, stride=2, padding=1), 16),
            _block(nn.Conv2d(16, 32, 3, stride=1, padding=1), 32),
        )
        self.decoder = nn.Sequential(
            _block(nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), 16),
            _block(nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1), 8),
            nn.Conv2d(8, channels, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        height, width = noisy.shape[-2:]
        # Two strides of 2 round a size up to a multiple of 4; the crop restores the size of the input.
        return self.decoder(self.encoder(noisy))[..., :height, :width]
