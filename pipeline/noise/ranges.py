"""Numbers that may be intervals, from which one is drawn for every image. Imports no torch, like `pipeline.noise`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    import torch

# How a number is drawn from a range: the function whose values are drawn uniformly, and its inverse. For a variance the
# default is its square root, the standard deviation: drawn log-uniformly, a blind model loses 1.2 dB at the top of its
# range (0.1) and gains 0.1 dB at the bottom (0.001); drawn uniformly, it loses 3 dB at the bottom.
DRAWS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "log": (math.log, lambda value: value.exp()),
    "sqrt": (math.sqrt, lambda value: value.square()),
    "uniform": (float, lambda value: value),
}


@dataclass(frozen=True)
class Range:
    """A number (`low` equals `high`), or an interval from which one is drawn for every image."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str, what: str, highest: float = math.inf, zero: bool = True) -> Range:
        """Parse `NUMBER` or `LOW:HIGH`.

        Args:
            text: what to parse.
            what: names the value in errors.
            highest: largest number allowed.
            zero: whether 0 is allowed.

        Raises:
            PipelineError: `text` is neither form, or a number is not allowed.
        """
        try:
            numbers = [float(part) for part in text.split(":")]
        except ValueError:
            numbers = []
        valid = all(math.isfinite(number) and (number > 0 or (zero and number == 0)) for number in numbers)
        if len(numbers) not in (1, 2) or not valid or max(numbers) > highest:
            bounds = ("from 0" if zero else "above 0") + (f" to {highest:g}" if highest < math.inf else "")
            raise PipelineError(f"{what}: '{text}' is not a number {bounds}, nor LOW:HIGH of two such numbers")
        if numbers[0] > numbers[-1]:
            raise PipelineError(f"{what}: '{text}': LOW must not be above HIGH")
        return cls(numbers[0], numbers[-1])

    @property
    def is_number(self) -> bool:
        return self.low == self.high

    def __str__(self) -> str:
        low, high = f"{self.low:.12g}", f"{self.high:.12g}"
        return low if self.is_number else f"{low}:{high}"

    def values(self, like: torch.Tensor, draw: str, generator: torch.Generator) -> torch.Tensor:
        """One number per image of `like` [N, C, H, W]: [N, 1, 1, 1]. A single number draws nothing from `generator`."""
        shape = (len(like), 1, 1, 1)
        if self.is_number:
            return like.new_full(shape, self.low)
        forth, back = DRAWS[draw]
        return back(like.new_empty(shape).uniform_(forth(self.low), forth(self.high), generator=generator))
