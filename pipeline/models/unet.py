"""The U-Net of the course (after Ronneberger et al. 2015), for denoising: 136,673 parameters at width 16."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional


def _block(convolution: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(convolution, nn.ReLU(), nn.BatchNorm2d(channels))


def _pair(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        _block(nn.Conv2d(channels_in, channels_out, 3, padding=1), channels_out),
        _block(nn.Conv2d(channels_out, channels_out, 3, padding=1), channels_out),
    )


class UNet(nn.Module):
    """Three scales of `width`, 2 and 4 times `width` channels; the skips are concatenated; a sigmoid at the end.

    Input: noisy images, float32 [N, C, H, W], clean pixels in [0, 1], any H and W from 1 up.
    Output: denoised images of the same shape, in (0, 1).
    """

    def __init__(self, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.encoder = nn.ModuleList(
            _pair(channels_in, channels_out) for channels_in, channels_out in pairwise((channels, *widths))
        )
        self.up = nn.ModuleList(
            _block(nn.ConvTranspose2d(2 * size, size, 4, stride=2, padding=1), size) for size in widths[-2::-1]
        )
        self.decoder = nn.ModuleList(_block(nn.Conv2d(2 * size, size, 3, padding=1), size) for size in widths[-2::-1])
        self.head = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        features = noisy
        skips = []
        for index, pair in enumerate(self.encoder):
            features = pair(features if index == 0 else self._pool(features))
            skips.append(features)
        skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            skip = skips.pop()
            height, width = skip.shape[-2:]
            features = block(torch.cat([up(features)[..., :height, :width], skip], dim=1))
        return torch.sigmoid(self.head(features))

    def _pool(self, features: torch.Tensor) -> torch.Tensor:
        # Odd sizes are rounded up, so that any size is possible.
        pooled = functional.max_pool2d(features, 2, ceil_mode=True)
        if self.training:
            return pooled
        # onnxruntime's maximum ignores NaN, torch's does not: this adds NaN, so that both return it for broken input.
        return pooled + 0 * functional.avg_pool2d(features, 2, ceil_mode=True)
