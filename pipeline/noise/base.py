"""What every kind of noise is: an object that turns clean images into noisy ones, and names itself."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from pipeline.errors import PipelineError
from pipeline.noise.ranges import Range

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Noise:
    """Base of all kinds: callable with clean images and a generator."""

    name: ClassVar[str]  # in `NOISES`

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a noisy copy of `clean`, float [N, C, H, W], of the same type and on the same device."""
        raise NotImplementedError

    def copy_of(
        self, clean: torch.Tensor | None, capture: torch.Tensor | None, generator: torch.Generator
    ) -> torch.Tensor:
        """The noisy copy of images: drawn for the clean ones, or the recorded capture. All are float [N, C, H, W]."""
        assert clean is not None
        return self(clean, generator)

    @property
    def is_recorded(self) -> bool:
        """Whether the noise is that of the data and cannot be drawn."""
        return False

    @property
    def has_grain(self) -> bool:
        """Whether that of neighbouring pixels goes together."""
        return False

    @property
    def level(self) -> float:
        """The standard deviation, where this is white Gaussian noise of one known level; else 0."""
        return 0.0

    def check(self) -> None:
        """Raise `PipelineError` for values that are each in range but not allowed together."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Range) and value.low == 0 < value.high and getattr(self, "draw", "") == "log":
                raise PipelineError(
                    f"--noise {self.name}: {field.name} {value}: a logarithm cannot be drawn from 0; "
                    "start above 0, or add draw=sqrt or draw=uniform"
                )

    def _options(self) -> dict[str, str]:
        """The parameters as text; `draw` and `clip` are left out where they have their defaults."""
        return {
            field.name: str(getattr(self, field.name))
            for field in fields(self)
            if not (field.name in ("draw", "clip") and getattr(self, field.name) == field.default)
        }

    @property
    def spec(self) -> str:
        """The text that `make_noise` turns into this noise."""
        options = ",".join(f"{key}={value}" for key, value in self._options().items())
        return f"{self.name}:{options}" if options else self.name

    @property
    def label(self) -> str:
        """A short name for metrics and files, of letters, digits, `.`, `-` and `_`; a bare number is Gaussian."""
        parts = [f"{key}{value}" for key, value in self._options().items()]
        return "-".join([self.name, *parts]).replace(":", "-")

    @property
    def description(self) -> str:
        """For sentences: "gaussian noise of variance 0.01"."""
        options = [f"{key} {value.replace(':', ' to ')}" for key, value in self._options().items()]
        return f"{self.name} noise" + (f" ({', '.join(options)})" if options else "")


Numbers = tuple["float | Numbers", ...]


def constant(numbers: Numbers, like: torch.Tensor) -> torch.Tensor:
    """The numbers as a tensor of the type of `like`, on its device.

    Kept, because each copy to a device would wait for all that is to be done there.
    """
    return _constant(numbers, like.dtype, like.device)


@cache
def _constant(numbers: Numbers, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    import torch

    return torch.tensor(numbers, dtype=dtype, device=device)


def normal(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Independent numbers of mean 0 and variance 1, of the shape and type of `like`."""
    return like.new_empty(like.shape).normal_(generator=generator)
