"""What a search may choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    import optuna

    Space = dict[str, optuna.distributions.BaseDistribution]

# How the next trial is chosen: a class in `optuna.samplers`, and what it is made with besides a seed.
SEARCHES: dict[str, tuple[str, dict[str, bool]]] = {
    "tpe": ("TPESampler", {"multivariate": True, "constant_liar": True}),
    "random": ("RandomSampler", {}),
}
# With another of these, the same validation loss means something else.
_MEASURE = ("noise", "variance", "clip_input", "target", "loss", "crop")


@dataclass(frozen=True)
class Bounds:
    """The numbers from `low` to `high`, both included: integers if both are; on a logarithmic scale if above 0."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}"


def space_of(options: Mapping[str, Sequence[Any]]) -> Space:
    """What there is to choose from, as Optuna's distributions.

    Args:
        options: one or more values, or `Bounds`, of every option of `run` that decides its result.

    Raises:
        PipelineError: Optuna is not installed, there is nothing to choose from, or the results would not compare.
    """
    try:
        from optuna import distributions
    except ImportError as error:
        raise PipelineError("search needs Optuna, which is not installed; run: pip install -e '.[search]'") from error
    space: Space = {}
    for name, values in options.items():
        bounds = next((value for value in values if isinstance(value, Bounds)), None)
        if bounds and len(values) > 1:
            raise PipelineError(f"--{name.replace('_', '-')} takes several values or one LOW:HIGH, not both")
        if bounds and isinstance(bounds.low, int):
            space[name] = distributions.IntDistribution(bounds.low, int(bounds.high), log=bounds.low > 0)
        elif bounds:
            space[name] = distributions.FloatDistribution(bounds.low, bounds.high, log=bounds.low > 0)
        elif len(values) > 1:
            space[name] = distributions.CategoricalDistribution(values)
    if not space:
        raise PipelineError("there is nothing to choose from; give an option several values, or LOW:HIGH")
    _check_measure(options)
    return space


def _check_measure(options: Mapping[str, Sequence[Any]]) -> None:
    """Raise a `PipelineError` if the options to choose from decide what the validation loss measures."""
    measures: dict[tuple[Any, ...], None] = {}
    for combination in product(*options.values()):
        chosen: dict[str, Any] = {
            name: value.low if isinstance(value, Bounds) else value
            for name, value in zip(options, combination, strict=True)
        }
        config = Config(**chosen)
        measures[tuple(getattr(config, name) for name in _MEASURE)] = None
    if len(measures) > 1:
        one, other, *_ = measures
        name, *values = next(
            (name, *pair) for name, *pair in zip(_MEASURE, one, other, strict=True) if pair[0] != pair[1]
        )
        raise PipelineError(
            f"the validation losses of {name}={values[0]} and {name}={values[1]} do not compare; "
            "give one of them, or run both with the command sweep"
        )
