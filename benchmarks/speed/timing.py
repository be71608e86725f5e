"""What all tables share: sides timed in turn, because only their ratio means something on a shared machine."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence


def in_turn(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every side in every round, after a round that only warms up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for round_number in range(-1, rounds):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            if round_number >= 0:
                times[name].append(time.perf_counter() - began)
    return times


def in_processes(module: str, sides: Sequence[str], rounds: int) -> dict[str, list[list[float]]]:
    """The numbers that `python -m MODULE SIDE ROUND` prints last, side after side, each in a process of its own."""
    numbers: dict[str, list[list[float]]] = {side: [] for side in sides}
    for round_number in range(rounds):
        for side in sides:
            command = [sys.executable, "-m", module, side, str(round_number)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            numbers[side].append([float(word) for word in done.stdout.splitlines()[-1].split()])
    return numbers


def ratio(above: Sequence[float], below: Sequence[float]) -> str:
    """Median of the ratios of two sides round by round, with the smallest and the largest of several."""
    ratios = [one / other for one, other in zip(above, below, strict=True)]
    between = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    return f"{statistics.median(ratios):.2f}{between}"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}"
