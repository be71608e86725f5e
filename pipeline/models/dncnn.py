"""DnCNN (Zhang et al. 2017), the usual reference in the field."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.models.residual import remove_noise


class DnCNN(nn.Module):
    """`depth` 3x3 convolutions at full resolution, all but the first and the last with BatchNorm.

    Input: noisy images, float32 [N, C, H, W], clean pixels in [0, 1], any H and W from 1 up.
    Output: denoised images of the same shape; within [0, 1] in eval mode, see `remove_noise`.

    Args:
        channels: C.
        depth: number of convolutions; 17 in the paper for one noise level. At least 2.
        width: channels between them; 64 in the paper.
    """

    def __init__(self, channels: int = 1, depth: int = 17, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            # No bias: BatchNorm has its own.
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.Conv2d(width, channels, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        return remove_noise(noisy, -self.layers(noisy), self.training)
