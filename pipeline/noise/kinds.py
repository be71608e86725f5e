"""The kinds of noise, as objects that turn clean images into noisy ones.

Images are float tensors [N, C, H, W] with clean pixels in [0, 1]. The noisy image is *not* clipped, unless `Clipped`
or a parameter asks for it: clipping would throw away half of the noise on MNIST's black and white pixels. All random
numbers come from the generator that the caller seeds, on the device of the images.

Adding a kind is one frozen dataclass and one entry in `NOISES`, at the end of this file. The fields of the class are
its parameters: a `Range` is a number, or an interval from which one is drawn for every image. Its docstring is what
the command `noises` prints. This module imports no torch until noise is drawn, so that the command line can list the
kinds at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError
from pipeline.noise.base import Noise, normal
from pipeline.noise.cameras import camera_profile
from pipeline.noise.ranges import Range
from pipeline.noise.sensor import SensorNoise
from pipeline.plugins import Table

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class GaussianNoise(Noise):
    """White Gaussian noise: y = x + sqrt(variance) n with n ~ N(0, 1), drawn for every pixel and channel.

    `clip` is the share of images that are then clipped to [0, 1], as stored images are: with 0.5, a model is trained
    on both kinds.
    """

    name = "gaussian"
    variance: Range = Range(0.01, 0.01)
    draw: str = "sqrt"
    clip: Range = Range(0, 0)

    @property
    def level(self) -> float:
        return math.sqrt(self.variance.low) if self.variance.is_number and self.clip.high == 0 else 0.0

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if self.variance.is_number:
            noisy = clean.new_empty(clean.shape).normal_(0.0, self.variance.low**0.5, generator=generator).add_(clean)
        else:
            sigma = self.variance.values(clean, self.draw, generator).sqrt_()
            noisy = normal(clean, generator).mul_(sigma).add_(clean)
        if self.clip.high == 0:
            return noisy
        share = self.clip.values(clean, "uniform", generator)
        is_clipped = share.new_empty(share.shape).uniform_(generator=generator) < share
        return noisy.clamp(0, 1).where(is_clipped, noisy)

    @property
    def label(self) -> str:
        return super().label.removeprefix("gaussian-variance").replace("-draw", "-")

    @property
    def description(self) -> str:
        how = {"log": ", log-uniform", "uniform": ", uniform"}.get(self.draw, "")
        percent = " to ".join(f"{share:.0%}" for share in dict.fromkeys((self.clip.low, self.clip.high)))
        share = f", {percent} of the images clipped to [0, 1]" if self.clip.high else ""
        return f"gaussian noise of variance {str(self.variance).replace(':', ' to ')}{how}{share}"


@dataclass(frozen=True)
class PoissonNoise(Noise):
    """Shot noise: y = Poisson(peak x) / peak, where `peak` is the mean number of photons at white.

    Its variance is x / peak: a black pixel has none. The default range is that of BSRGAN (Zhang et al. 2021), whose
    Poisson noise has 10^2 to 10^4 photons at white.
    """

    name = "poisson"
    peak: Range = Range(100, 10_000)
    draw: str = "log"

    def check(self) -> None:
        super().check()
        if self.peak.low == 0:
            raise PipelineError(f"--noise poisson: peak {self.peak} must be above 0")

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        import torch

        peak = self.peak.values(clean, self.draw, generator)
        return torch.poisson(clean * peak, generator=generator).div_(peak)


@dataclass(frozen=True)
class PoissonGaussianNoise(Noise):
    """A sensor: y = x + sqrt(shot x + read) n with n ~ N(0, 1) (Foi et al. 2008, the Gaussian approximation).

    `shot` and `read` are variances for pixels in [0, 1]: of the photons, at white, and of the electronics. By default
    shot is log-uniform in 0.0001 to 0.012 as Brooks et al. 2019 draw it ("unprocessing"), and read is uniform in the
    logarithm between the values of their fit, log read = 2.18 log shot + 1.2, at the two ends.
    """

    name = "poisson-gaussian"
    shot: Range = Range(1e-4, 1.2e-2)
    read: Range = Range(6.3e-9, 2.2e-4)
    draw: str = "log"

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        shot = self.shot.values(clean, self.draw, generator)
        read = self.read.values(clean, self.draw, generator)
        return normal(clean, generator).mul_((shot * clean + read).sqrt_()).add_(clean)


@dataclass(frozen=True)
class SaltPepperNoise(Noise):
    """Dead and hot pixels: a share `amount` of the pixels becomes 0 or 1, equally likely, in all channels at once."""

    name = "salt-pepper"
    amount: Range = Range(0.05, 0.05)
    draw: str = "log"

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        amount = self.amount.values(clean, self.draw, generator)
        chance = clean[:, :1].new_empty(clean[:, :1].shape).uniform_(generator=generator)
        return clean.where(chance >= amount, (chance < amount / 2).to(clean.dtype))


@dataclass(frozen=True)
class SpeckleNoise(Noise):
    """Multiplicative noise, as in radar and ultrasound images: y = x + x sqrt(variance) n with n ~ N(0, 1)."""

    name = "speckle"
    variance: Range = Range(0.01, 0.01)
    draw: str = "sqrt"

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        sigma = self.variance.values(clean, self.draw, generator).sqrt_()
        return normal(clean, generator).mul_(sigma).mul_(clean).add_(clean)


@dataclass(frozen=True)
class QuantizationNoise(Noise):
    """Rounding to `levels` values evenly spaced in [0, 1] (256 for 8 bits). Only the draw from a range is random."""

    name = "quantization"
    levels: Range = Range(8, 8)
    draw: str = "log"

    def check(self) -> None:
        super().check()
        if self.levels.low < 2:
            raise PipelineError(f"--noise quantization: levels {self.levels} must be 2 or more")

    @property
    def has_grain(self) -> bool:
        return True

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        steps = self.levels.values(clean, self.draw, generator).round_().clamp_(min=2) - 1
        return (clean * steps).round_().div_(steps)


@dataclass(frozen=True)
class CorrelatedNoise(Noise):
    """Gaussian noise with grain: white noise blurred by a Gaussian of standard deviation `blur` pixels.

    Demosaicking and denoising in a camera leave such grain. It is scaled so that every pixel has the given variance.
    """

    name = "correlated"
    variance: Range = Range(0.01, 0.01)
    blur: Range = Range(0.7, 0.7)
    draw: str = "sqrt"

    @property
    def has_grain(self) -> bool:
        return True

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        import torch

        sigma = self.variance.values(clean, self.draw, generator).sqrt_()
        blur = self.blur.values(clean, self.draw, generator).clamp_(min=1e-3)
        reach = math.ceil(3 * self.blur.high)
        # Noise is drawn with a margin, so that the border is like the centre. The blur is separable, and its weights
        # differ from image to image.
        count, channels, height, width = clean.shape
        grain = clean.new_empty((count, channels, height + 2 * reach, width + 2 * reach)).normal_(generator=generator)
        offsets = torch.arange(-reach, reach + 1, device=clean.device)
        weights = (-(offsets**2) / (2 * blur.square())).exp()  # [N, 1, 1, taps]
        weights = weights / weights.square().sum(dim=-1, keepdim=True).sqrt()  # keeps the variance
        rows = grain.unfold(2, len(offsets), 1).mul(weights[:, :, None]).sum(dim=-1)
        both = rows.unfold(3, len(offsets), 1).mul(weights[:, :, None]).sum(dim=-1)
        return both.mul(sigma).add_(clean)


@dataclass(frozen=True)
class CameraNoise(Noise):
    """The measured noise of a real camera: y = x + sqrt(a x + b) n, with a and b of the green channel.

    `profile` is words that all occur in the "maker model ISO number" of exactly one of darktable's 7,000 profiles:
    `camera:profile=Canon EOS 6D iso 6400`. The profiles are read from an installed darktable, or from the file that
    the variable DARKTABLE_NOISEPROFILES names (their licence is the GPL).
    """

    name = "camera"
    profile: str = ""

    def check(self) -> None:
        camera_profile(self.profile)

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        a, b = camera_profile(self.profile)
        return normal(clean, generator).mul_((a * clean + b).clamp_(min=0).sqrt_()).add_(clean)

    @property
    def label(self) -> str:
        return "-".join(["camera", *"".join(c if c.isascii() and c.isalnum() else " " for c in self.profile).split()])


@dataclass(frozen=True)
class RecordedNoise(Noise):
    """The noise of the data themselves: pairs, bursts, or noisy images alone. Nothing is drawn.

    `sigma` is its standard deviation for pixels in [0, 1], where it is known; 0 where it is not.
    """

    name = "recorded"
    sigma: Range = Range(0, 0)

    @property
    def level(self) -> float:
        return self.sigma.low

    def check(self) -> None:
        if not self.sigma.is_number:
            raise PipelineError(f"--noise recorded: sigma {self.sigma} must be one number")

    def copy_of(
        self, clean: torch.Tensor | None, capture: torch.Tensor | None, generator: torch.Generator
    ) -> torch.Tensor:
        assert capture is not None
        return capture

    @property
    def is_recorded(self) -> bool:
        return True

    @property
    def label(self) -> str:
        return self.name  # one name for all levels, which are facts about the data

    @property
    def description(self) -> str:
        return "the noise of the data" + (f" (standard deviation {self.sigma})" if self.sigma.high else "")


@dataclass(frozen=True)
class Clipped(Noise):
    """Another noise, with the noisy image clipped to [0, 1], as a stored image is."""

    noise: Noise

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return self.noise(clean, generator).clamp_(0, 1)

    def copy_of(
        self, clean: torch.Tensor | None, capture: torch.Tensor | None, generator: torch.Generator
    ) -> torch.Tensor:
        return self.noise.copy_of(clean, capture, generator).clamp(0, 1)

    @property
    def level(self) -> float:
        return self.noise.level if self.is_recorded else 0.0

    @property
    def is_recorded(self) -> bool:
        return self.noise.is_recorded

    @property
    def has_grain(self) -> bool:
        return self.noise.has_grain

    @property
    def spec(self) -> str:
        return f"{self.noise.spec} clipped"  # for display: `make_noise` takes clipping as an argument

    @property
    def label(self) -> str:
        return f"{self.noise.label}-clipped"

    @property
    def description(self) -> str:
        return f"{self.noise.description}, clipped to [0, 1]"


@dataclass(frozen=True)
class Mixed(Noise):
    """Several kinds, of which every image has one: the images of a batch take turns.

    Training batches are in random order, so that this is as good as a draw, and no kind is drawn in vain. A kind that
    is given twice has twice as many turns.
    """

    noises: tuple[Noise, ...]

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        import torch

        noisy = torch.empty_like(clean)
        for turn, noise in enumerate(self.noises):
            if turn < len(clean):
                noisy[turn :: len(self.noises)] = noise(clean[turn :: len(self.noises)], generator)
        return noisy

    @property
    def has_grain(self) -> bool:
        return any(noise.has_grain for noise in self.noises)

    @property
    def spec(self) -> str:
        return "+".join(noise.spec for noise in self.noises)

    @property
    def label(self) -> str:
        return "-or-".join(f"{noise.label}-x{count}" if count > 1 else noise.label for noise, count in self._counts())

    @property
    def description(self) -> str:
        shares = [f"{count} in {len(self.noises)}" for _, count in self._counts()]
        texts = [noise.description for noise, _ in self._counts()]
        return "; or ".join(f"{text} ({share} images)" for text, share in zip(texts, shares, strict=True))

    def _counts(self) -> list[tuple[Noise, int]]:
        return [(noise, self.noises.count(noise)) for noise in dict.fromkeys(self.noises)]


def _added(name: str, member: object) -> type[Noise]:
    """A kind that a package adds."""
    if not (isinstance(member, type) and issubclass(member, Noise) and is_dataclass(member)):
        raise PipelineError("it is not a dataclass derived from pipeline.noise.Noise")
    if member.name != name:
        raise PipelineError(f"its class attribute name is '{member.name}'; it must be '{name}'")
    return member


# The kinds that `--noise` takes, and the highest values of parameters that have one.
_OWN: dict[str, type[Noise]] = {
    kind.name: kind
    for kind in (
        GaussianNoise,
        PoissonNoise,
        PoissonGaussianNoise,
        SaltPepperNoise,
        SpeckleNoise,
        QuantizationNoise,
        CorrelatedNoise,
        SensorNoise,
        CameraNoise,
        RecordedNoise,
    )
}
NOISES = Table("noise", _OWN, _added)
HIGHEST = {"variance": 100.0, "clip": 1.0, "amount": 1.0, "blur": 10.0}
