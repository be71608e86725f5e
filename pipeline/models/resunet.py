"""A small residual U-Net without normalisation, after DRUNet (Zhang et al. 2021)."""

from __future__ import annotations

from itertools import islice

import torch
from torch import nn
from torch.nn import functional

from pipeline.models.residual import remove_noise


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), initially the identity, which makes high learning rates possible."""

    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        nn.init.zeros_(self.second.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.second(functional.relu(self.first(features)))


class ResUNet(nn.Module):
    """Residual blocks at several scales, each with half the size and twice the channels of the one before.

    Skips are added. There are 1, 1, 2, 3, … residual blocks at the scales, down to the last and again on the way back.

    The network predicts what to add to its input, so that detail does not have to pass a bottleneck.

    Input: noisy images, float32 [N, C, H, W], clean pixels in [0, 1], any H and W from 1 up.
    Output: denoised images of the same shape; within [0, 1] in eval mode, see `remove_noise`.

    Args:
        channels: C.
        width: channels at full resolution.
        scales: how many.
        bias: False leaves out every additive constant. Scaling the input then scales the output (before the clamp),
            so that the model generalises to noise levels that it was not trained on (Mohan et al. 2020).
        noise_map: estimate the noise level around every pixel and feed it as one more channel (FFDNet, Zhang et al.
            2018, takes the true level in this way).
    """

    def __init__(
        self, channels: int = 1, width: int = 16, scales: int = 3, bias: bool = True, noise_map: bool = False
    ) -> None:
        super().__init__()
        widths = [width * 2**scale for scale in range(scales)]
        self.blocks = [max(1, scale) for scale in range(scales)]
        self.noise_map = noise_map
        self.stem = nn.Conv2d(channels + noise_map, width, 3, padding=1, bias=bias)
        *sides, middle = (
            [ResidualBlock(size, bias) for _ in range(count)] for size, count in zip(widths, self.blocks, strict=True)
        )
        # The blocks of all scales in one list each.
        self.encoder = nn.ModuleList(block for side in sides for block in side)
        self.down = nn.ModuleList(nn.Conv2d(size, 2 * size, 3, stride=2, padding=1, bias=bias) for size in widths[:-1])
        self.middle = nn.Sequential(*middle)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * size, size, 2, stride=2, bias=bias) for size in widths[-2::-1])
        self.decoder = nn.ModuleList(
            ResidualBlock(widths[scale], bias) for scale in range(scales - 2, -1, -1) for _ in range(self.blocks[scale])
        )
        self.head = nn.Conv2d(width, channels, 3, padding=1, bias=bias)
        nn.init.zeros_(self.head.weight)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        height, width = noisy.shape[-2:]
        padded = _mirrored(noisy, 2 ** len(self.down))
        features = self.stem(torch.cat([padded, noise_level(padded)], dim=1) if self.noise_map else padded)
        skips = []
        encoder, decoder = iter(self.encoder), iter(self.decoder)
        for count, down in zip(self.blocks, self.down, strict=False):
            for block in islice(encoder, count):
                features = block(features)
            skips.append(features)
            features = down(features)
        features = self.middle(features)
        for count, up in zip(self.blocks[-2::-1], self.up, strict=True):
            features = up(features) + skips.pop()
            for block in islice(decoder, count):
                features = block(features)
        return remove_noise(noisy, self.head(features)[..., :height, :width], self.training)


def _mirrored(images: torch.Tensor, multiple: int) -> torch.Tensor:
    """Images [N, C, H, W] made larger at the bottom and on the right, to multiples of a number, by mirroring pixels.

    Training sees sides that can be halved at every scale. At others, the last pixels of a scale have neighbours as
    nowhere in training: at 321x481 a network lost 7 dB, and 5 dB where the last pixel is repeated instead.
    """
    sides = images.shape[-2:]
    # In an exported graph the sides are not known.
    if not torch.compiler.is_exporting() and all(side % multiple == 0 for side in sides):
        return images
    for dimension, side in zip((2, 3), sides, strict=True):
        more = multiple - 1 - (side - 1) % multiple  # the remainder of a negative number is not the same everywhere
        places = torch.arange(side + more, device=images.device)
        inside = torch.minimum(places, 2 * (side - 1) - places)
        # Not a clamp, which OpenCV has for floats only.
        images = images.index_select(dimension, torch.maximum(inside, torch.zeros_like(inside)))
    return images


def noise_level(noisy: torch.Tensor) -> torch.Tensor:
    """Estimated standard deviation of the noise around every pixel: float [N, 1, H, W] from [N, C, H, W].

    Immerkaer 1996: a second difference along both axes removes smooth parts of the image and multiplies the standard
    deviation of the noise by 6; the mean magnitude, here over 15x15 pixels, is sqrt(2 / pi) times that.
    """
    difference = noisy.new_tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    gray = noisy.mean(dim=1, keepdim=True) * noisy.shape[1] ** 0.5  # averaging C channels divides the noise by sqrt(C)
    response = functional.conv2d(gray, difference[None, None], padding=1).abs()
    return functional.avg_pool2d(response, 15, stride=1, padding=7, count_include_pad=False) * (torch.pi / 2) ** 0.5 / 6
