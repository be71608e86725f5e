"""Learning-rate schedules: the factor on the learning rate, given the share of all steps done."""

from __future__ import annotations

from collections.abc import Callable

_WARM_UP = 0.1  # share of the steps in which the linear schedule rises to its peak


def _linear(progress: float) -> float:
    if progress < _WARM_UP:
        return 0.04 + 0.96 * progress / _WARM_UP
    return (1 - progress) / (1 - _WARM_UP)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": _linear,  # up to the peak, then down to zero
    "constant": lambda progress: 1.0,
}
