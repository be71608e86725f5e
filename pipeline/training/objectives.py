"""What training minimises: against which target, by which loss. Each is one function and an entry in a table.

This module imports no torch, so that the command line can list the tables at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from pipeline.noise import Noise

_MASKED = 1 / 16  # share of the pixels that `self` hides
_FLOOR = 1e-8  # of the mean squared error in the PSNR loss: 80 dB, beyond what 8-bit images hold


@dataclass(frozen=True)
class Pair:
    """What goes into the network and what its output is compared with, both float [N, C, H, W]."""

    noisy: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor | None = None  # [N, 1, H, W]: 1 where the output counts, 0 elsewhere; None: everywhere

    def part(self, images: slice) -> Pair:
        """Of some of the images."""
        return Pair(self.noisy[images], self.target[images], None if self.weight is None else self.weight[images])


Target = Callable[["torch.Tensor", "Noise", "torch.Generator"], Pair]
"""Takes clean images, float [N, C, H, W], the noise, and the generator to draw it with."""


def clean(images: torch.Tensor, noise: Noise, generator: torch.Generator) -> Pair:
    return Pair(noise(images, generator), images)


def noisy(images: torch.Tensor, noise: Noise, generator: torch.Generator) -> Pair:
    pair = noise(images, generator)
    return Pair(pair, pair)


def noisy2noisy(images: torch.Tensor, noise: Noise, generator: torch.Generator) -> Pair:
    """Lehtinen et al. 2018: for noise of mean zero, the mean of the noisy targets is the clean image."""
    return Pair(noise(images, generator), noise(images, generator))


def self(images: torch.Tensor, noise: Noise, generator: torch.Generator) -> Pair:
    """Krull et al. 2019 (Noise2Void): one noisy image is input and target.

    A random sixteenth of the pixels is replaced by a neighbour (the same step to the side for a whole batch, drawn
    within 5x5 pixels), and the loss looks at those only: a pixel is guessed from what surrounds it, which holds
    nothing of its own noise. That is true of noise that is independent from pixel to pixel.
    """
    drawn = noise(images, generator)
    masked = drawn[:, :1].new_empty(drawn[:, :1].shape).uniform_(generator=generator) < _MASKED
    step = int(drawn.new_empty(1).uniform_(0, 24, generator=generator).item())
    step += step >= 12  # number 12 of 0...24 would be no step at all
    neighbour = drawn.roll((step // 5 - 2, step % 5 - 2), (2, 3))
    return Pair(drawn.where(~masked, neighbour), drawn, masked.to(drawn.dtype))


# What the output is compared with (`--target`).
TARGETS: dict[str, tuple[Target, str]] = {
    "clean": (clean, "the clean image"),
    "noisy": (noisy, "the same noisy image: the page's mistake"),
    "noisy2noisy": (noisy2noisy, "a second noisy draw (Noise2Noise)"),
    "self": (self, "hidden pixels of the same noisy image (Noise2Void)"),
}


def image_errors(output: torch.Tensor, pair: Pair) -> torch.Tensor:
    """Mean squared error of every image, [N], over the pixels that count."""
    squared = (output - pair.target).square()
    if pair.weight is None:
        return squared.mean(dim=(1, 2, 3))
    count = pair.weight.sum(dim=(1, 2, 3)).clamp(min=1) * squared.shape[1]
    return (squared * pair.weight).sum(dim=(1, 2, 3)) / count


def mse(errors: torch.Tensor) -> torch.Tensor:
    return errors.mean()


def psnr(errors: torch.Tensor) -> torch.Tensor:
    """Minus the mean PSNR in dB: an image of little noise counts as much as one of much (cf. NAFNet, Chen 2022)."""
    return 10 * (errors + _FLOOR).log10().mean()


# How the errors of the images in a batch become one number (`--loss`), and what that number is.
LOSSES: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "mse": (mse, "mean squared error"),
    "psnr": (psnr, "minus the mean PSNR, in dB"),
}
