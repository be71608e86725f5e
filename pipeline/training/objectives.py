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
_SHARE = 0.5  # of the noise, by which `recorrupted` strengthens it in the input; the paper's choice
_STEP = 0.003  # by how much pixels change where a divergence is measured
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


@dataclass(frozen=True)
class Probed:
    """Noisy images, float [N, C, H, W], that are input and target at once, and a direction to change them in.

    The network's divergence, how much of a change of a pixel comes out at the same pixel on average, is the share of
    the noise that it lets through. It is measured along one random direction (Ramani, Blu and Unser 2008).
    """

    noisy: torch.Tensor
    direction: torch.Tensor  # [N, C, H, W], of mean 0 and variance 1
    variance: float  # of the noise; 0 where it is not known

    def __len__(self) -> int:
        return len(self.noisy)

    def part(self, images: slice) -> Probed:
        """The same for some of the images."""
        return Probed(self.noisy[images], self.direction[images], self.variance)

    @property
    def input(self) -> torch.Tensor:
        """What goes through the network, [2 N, C, H, W]: the images, and the images a small step away."""
        import torch

        return torch.cat([self.noisy, self.noisy + _STEP * self.direction])

    def errors(self, output: torch.Tensor) -> torch.Tensor:
        """An estimate of the mean squared error to the clean image, which may be below 0, for every image: [N].

        With a known variance, Stein's: |f(y) - y|^2 / n + 2 variance divergence / n - variance. Without one, after
        UNSURE (Tachella, Davies and Jacques 2024): only networks without divergence, which cannot let noise through,
        are compared, by |f(y) - y|^2 / n; the variance is left in that. Here the square of the images' mean divergence
        is a penalty. The denoiser that results is the one that Stein's estimate gives for a variance of as much as
        the divergence that is left.
        """
        denoised, moved = output.chunk(2)
        distances = (denoised - self.noisy).square().mean(dim=(1, 2, 3))
        divergences = (self.direction * (moved - denoised)).mean(dim=(1, 2, 3)) / _STEP
        if self.variance:
            return distances + 2 * self.variance * divergences - self.variance
        return distances + divergences * divergences.mean()


Target = Callable[["Batch", "Noise", "torch.Generator"], Pair | Probed]
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


def stein(images: Batch, noise: Noise, generator: torch.Generator) -> Probed:
    """Stein 1981, and Soltanayev and Chun 2018 for networks: noisy images, and Gaussian noise of a known level."""
    assert noise.level
    drawn = noise.copy_of(images.clean, images.noisy, generator)
    return Probed(drawn, _normal(drawn, generator), noise.level**2)


def unknown_stein(images: Batch, noise: Noise, generator: torch.Generator) -> Probed:
    """As `stein` for white noise of any level, which need not be known."""
    drawn = noise.copy_of(images.clean, images.noisy, generator)
    return Probed(drawn, _normal(drawn, generator), 0)


def recorrupted(images: Batch, noise: Noise, generator: torch.Generator) -> Pair:
    """Pang et al. 2021: two images y + a z and y - z / a with a new noise z of the known level have independent noise.

    So they are a pair as in `noisy2noisy`. The network learns at a little more noise than it is used at.
    """
    assert noise.level
    drawn = noise.copy_of(images.clean, images.noisy, generator)
    more = noise.level * _normal(drawn, generator)
    return Pair(drawn + _SHARE * more, drawn - more / _SHARE)


def _normal(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return like.new_empty(like.shape).normal_(generator=generator)


# The values of `--target`. `pipeline.config` lists those that need a known level, and those that go with one loss only.
TARGETS: dict[str, tuple[Target, str]] = {
    "clean": (clean, "the clean image"),
    "noisy": (noisy, "the same noisy image: the course page's mistake"),
    "noisy2noisy": (noisy2noisy, "a second noisy draw (Noise2Noise)"),
    "self": (unknown_stein, "the same noisy image, without letting noise through (UNSURE)"),
    "sure": (stein, "the same noisy image, by Stein's unbiased risk estimate"),
    "r2r": (recorrupted, "the same noisy image with other noise (Recorrupted2Recorrupted)"),
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
