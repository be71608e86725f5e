"""What training minimises: the loss, and the target that the output is compared with.

To add one, write a function and enter it in `TARGETS` or `LOSSES`. This module imports no torch, so that the command
line can list the tables at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from pipeline.data.batches import Batch
    from pipeline.noise import Noise

Network = Callable[["torch.Tensor"], "torch.Tensor"]

_SHARE = 0.5  # of the noise, by which `recorrupted` strengthens it in the input; the paper's choice
_STEP = 0.003  # by how much pixels change where a divergence is measured
_STRICTNESS = 10  # weight of a squared divergence, where the noise level is not known
_FLOOR = 1e-8  # added to the mean squared error under a root or a logarithm: 80 dB, more than 8-bit images can have


@dataclass(frozen=True)
class Pair:
    """The input of the network and the target of its output, both float [N, C, H, W], pixels on the [0, 1] scale."""

    noisy: torch.Tensor
    target: torch.Tensor
    drawn: torch.Tensor | None = None  # the noisy images, where the input has more noise than these

    def __len__(self) -> int:
        return len(self.noisy)

    def part(self, images: slice) -> Pair:
        """The pair for some of the images."""
        return Pair(self.noisy[images], self.target[images], None if self.drawn is None else self.drawn[images])

    @property
    def input(self) -> torch.Tensor:
        """What goes through the network."""
        return self.noisy

    def errors(self, output: torch.Tensor) -> torch.Tensor:
        """Mean squared error of every image, [N]."""
        return (output - self.target).square().mean(dim=(1, 2, 3))

    def denoised(self, output: torch.Tensor, network: Network) -> torch.Tensor:
        """What `network` makes of the noisy images, [N, C, H, W]; `output` is what it made of `input`."""
        return output if self.drawn is None else network(self.drawn)


@dataclass(frozen=True)
class Probed:
    """Noisy images y, float [N, C, H, W], that are input and target at once, and a direction to change them in.

    The network's divergence, divided by the number of pixels here, is how much of a change of a pixel comes out at the
    same pixel: the share of the noise that is let through. It is measured along one random direction (Ramani, Blu and
    Unser 2008).
    """

    noisy: torch.Tensor
    direction: torch.Tensor  # [N, C, H, W], of mean 0 and variance 1
    variances: torch.Tensor  # of the noise: [N, 1, H, W], or [N, 1, 1, 1] where all pixels have the same
    is_known: bool  # False where the variances are a rough guess

    def __len__(self) -> int:
        return len(self.noisy)

    def part(self, images: slice) -> Probed:
        """The same for some of the images."""
        return replace(
            self, noisy=self.noisy[images], direction=self.direction[images], variances=self.variances[images]
        )

    @property
    def input(self) -> torch.Tensor:
        """What goes through the network, [2 N, C, H, W]: the images, and the images a small step away."""
        import torch

        return torch.cat([self.noisy, self.noisy + _STEP * self.direction])

    def denoised(self, output: torch.Tensor, network: Network) -> torch.Tensor:
        """What `network` makes of the noisy images, [N, C, H, W]; `output` is what it made of `input`."""
        return output.chunk(2)[0]

    def errors(self, output: torch.Tensor) -> torch.Tensor:
        """What to minimise for every image, [N], from its distance D = |f(y) - y|^2 / n and divergence d.

        With known variances v, Stein's estimate of the mean squared error to the clean image: D + 2 v d - v. It is
        right on average, and may be below 0.

        Without, D + 10 v d^2, d being the mean of the images. UNSURE (Tachella, Davies and Jacques 2024) asks for d =
        0, the limit for a large factor. What is removed is then the right thing for any v, but too much of it: the
        best denoiser lets something through, d being its error as a share of v. The factor leaves about a tenth, and
        v has to be right to a factor of 3 only.
        """
        denoised, moved = output.chunk(2)
        distances = (denoised - self.noisy).square()
        divergences = self.direction * (moved - denoised) / _STEP
        if self.is_known:
            terms = self.variances * (2 * divergences - 1)
        else:
            # As large as 10 v d^2, and with its gradient; but a pixel with more noise than others counts more.
            mean = divergences.mean().detach()
            terms = _STRICTNESS * self.variances * mean * (2 * divergences - mean)
        return (distances + terms).mean(dim=(1, 2, 3))


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


def stein(images: Batch, noise: Noise, generator: torch.Generator) -> Probed:
    """Stein 1981, and Soltanayev and Chun 2018 for networks: noisy images, and Gaussian noise of a known level."""
    assert noise.level
    drawn = noise.copy_of(images.clean, images.noisy, generator)
    return Probed(drawn, _normal(drawn, generator), drawn.new_full((len(drawn), 1, 1, 1), noise.level**2), True)


def unknown_stein(images: Batch, noise: Noise, generator: torch.Generator) -> Probed:
    """As `stein` for noise that is white, but whose level is not known and may depend on the place."""
    from pipeline.models.resunet import noise_level

    drawn = noise.copy_of(images.clean, images.noisy, generator)
    return Probed(drawn, _normal(drawn, generator), noise_level(drawn).square(), False)


def recorrupted(images: Batch, noise: Noise, generator: torch.Generator) -> Pair:
    """Pang et al. 2021: two images y + a z and y - z / a with a new noise z of the known level have independent noise.

    So they are a pair as in `noisy2noisy`. The network learns at a little more noise than it is used at.
    """
    assert noise.level
    drawn = noise.copy_of(images.clean, images.noisy, generator)
    more = noise.level * _normal(drawn, generator)
    return Pair(drawn + _SHARE * more, drawn - more / _SHARE, drawn)


def _normal(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return like.new_empty(like.shape).normal_(generator=generator)


# The values of `--target`. `pipeline.config` lists those that need a known level, and those that go with one loss only.
TARGETS: dict[str, tuple[Target, str]] = {
    "clean": (clean, "the clean image"),
    "noisy": (noisy, "the same noisy image: the course page's mistake"),
    "noisy2noisy": (noisy2noisy, "a second noisy draw (Noise2Noise)"),
    "self": (unknown_stein, "the same noisy image, without letting noise through"),
    "sure": (stein, "the same noisy image, by Stein's unbiased risk estimate"),
    "r2r": (recorrupted, "the same noisy image with other noise (Recorrupted2Recorrupted)"),
}


def mse(errors: torch.Tensor) -> torch.Tensor:
    return errors.mean()


def minus_psnr(errors: torch.Tensor) -> torch.Tensor:
    """Minus the mean PSNR in dB: images with little and with much noise count the same (cf. NAFNet, Chen 2022)."""
    return 10 * (errors + _FLOOR).log10().mean()


def rmse(errors: torch.Tensor) -> torch.Tensor:
    """The mean of the images' root mean squared errors: between the other two in how much strong noise counts."""
    return (errors + _FLOOR).sqrt().mean()


# The values of `--loss`: how the errors of the images in a batch become one number, and what that number is.
LOSSES: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "mse": (mse, "mean squared error"),
    "rmse": (rmse, "root mean squared error"),
    "psnr": (minus_psnr, "minus the mean PSNR, in dB"),
}
