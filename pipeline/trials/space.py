"""What a search may choose from, and how it chooses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, both included; of two integers, integers. Above 0, on a logarithmic scale."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}"


# How the next trial is chosen: a class in `optuna.samplers`, and what it is made with besides a seed.
SEARCHES: dict[str, tuple[str, dict[str, bool]]] = {
    "tpe": ("TPESampler", {"multivariate": True, "constant_liar": True}),
    "random": ("RandomSampler", {}),
}
