"""What training minimises: the loss, and the target that the output is compared with.

To add one, write a function and enter it in `TARGETS` or `LOSSES`. This module imports no torch, so that the command
line can list the tables at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from pipeline.data.batches import Batch
    from pipeline.noise import Noise

_MASKED = 1 / 16  # share of the pixels that `noise2void` hides
_FLOOR = 1e-8  # added to the mean squared error in the PSNR loss: 80 dB, more than 8-bit images can have


@dataclass(frozen=True)
class Pair:
    """The input of the network and the target of its output, both float [N, C, H, W], pixels on the [0, 1] scale."""

    noisy: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor | None = None  # [N, 1, H, W]: 1 where the output counts, 0 elsewhere; None: everywhere

    def __len__(self) -> int:
        return len(self.noisy)

    def part(self, images: slice) -> Pair:
        """The pair for some of the images."""
        return Pair(self.noisy[images], self.target[images], None if self.weight is None else self.weight[images])

    @property
    def input(self) -> torch.Tensor:
        """What goes through the network."""
        return self.noisy

    def errors(self, output: torch.Tensor) -> torch.Tensor:
        """Mean squared error of every image, [N], over the pixels with weight."""
        squared = (output - self.target).square()
        if self.weight is None:
            return squared.mean(dim=(1, 2, 3))
        count = self.weight.sum(dim=(1, 2, 3)).clamp(min=1) * squared.shape[1]
        return (squared * self.weight).sum(dim=(1, 2, 3)) / count


Target = Callable[["Batch", "Noise", "torch.Generator"], Pair]
"""Takes images, float [N, C, H, W] on the [0, 1] scale, the noise, and the generator to draw it with."""


def clean(images: Batch, noise: Noise, generator: torch.Generator) -> Pair:
    assert images.clean is not None
    return Pair(noise.copy_of(images.clean, images.noisy, generator), images.clean)


def noisy(images: Batch, noise: Noise, generator: torch.Generator) -> Pair:
    drawn = noise.copy_of(images.clean, images.noisy, generator)
    return Pair(drawn, drawn)


def noisy2noisy(images: Batch, noise: Noise, generator: torch.Generator) -> Pair:
    """Lehtinen et al. 2018: for noise of mean zero, the mean of the noisy targets is the clean image."""
    first = noise.copy_of(images.clean, images.noisy, generator)
    return Pair(first, noise.copy_of(images.clean, images.second, generator))


def noise2void(images: Batch, noise: Noise, generator: torch.Generator) -> Pair:
    """Krull et al. 2019: one noisy image is both input and target.

    A random sixteenth of the pixels is replaced by a neighbour (at the same offset for a whole batch, drawn within 5x5
    pixels), and the loss covers only those: the network has to predict a pixel from its surroundings, which say
    nothing about its noise. This holds for noise that is independent from pixel to pixel.
    """
    drawn = noise.copy_of(images.clean, images.noisy, generator)
    masked = drawn[:, :1].new_empty(drawn[:, :1].shape).uniform_(generator=generator) < _MASKED
    offset = int(drawn.new_empty(1).uniform_(0, 24, generator=generator).item())
    offset += offset >= 12  # of 0...24, number 12 is the pixel itself
    neighbour = drawn.roll((offset // 5 - 2, offset % 5 - 2), (2, 3))
    return Pair(drawn.where(~masked, neighbour), drawn, masked.to(drawn.dtype))


# The values of `--target`.
TARGETS: dict[str, tuple[Target, str]] = {
    "clean": (clean, "the clean image"),
    "noisy": (noisy, "the same noisy image: the course page's mistake"),
    "noisy2noisy": (noisy2noisy, "a second noisy draw (Noise2Noise)"),
    "self": (noise2void, "hidden pixels of the same noisy image (Noise2Void)"),
}


def mse(errors: torch.Tensor) -> torch.Tensor:
    return errors.mean()


def minus_psnr(errors: torch.Tensor) -> torch.Tensor:
    """Minus the mean PSNR in dB: images with little and with much noise count the same (cf. NAFNet, Chen 2022)."""
    return 10 * (errors + _FLOOR).log10().mean()


# The values of `--loss`: how the errors of the images in a batch become one number, and what that number is.
LOSSES: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "mse": (mse, "mean squared error"),
    "psnr": (minus_psnr, "minus the mean PSNR, in dB"),
}
