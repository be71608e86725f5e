"""Noise: each kind is an object that turns clean images into noisy ones with a generator that the caller seeds.

Images are float tensors [N, C, H, W] with clean pixels in [0, 1]. The noisy image is *not* clipped: clipping
would throw away half of the noise on MNIST's black and white pixels. This module imports no torch, so that
the command line can list the table at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class Noise(Protocol):
    """Any kind of noise."""

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a noisy copy of `clean` [N, C, H, W], drawn with `generator`, on the same device."""
        ...


@dataclass(frozen=True)
class GaussianNoise:
    """White Gaussian noise: y = x + sqrt(variance) * n with n ~ N(0, 1) drawn for every pixel."""

    variance: float  # above 0, for pixels in [0, 1]

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return clean.new_empty(clean.shape).normal_(0.0, self.variance**0.5, generator=generator).add_(clean)


# The kinds that `--noise` takes. Each is made from the variance.
NOISES: dict[str, type[GaussianNoise]] = {"gaussian": GaussianNoise}


def make_noise(name: str, variance: float) -> Noise:
    """The noise called `name` (a key of `NOISES`) at a variance on the [0, 1] scale."""
    return NOISES[name](variance)
