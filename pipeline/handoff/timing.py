"""How long ONNX files take in onnxruntime."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.verification.runtimes import open_onnxruntime

_ROUNDS = 7  # the first one is not counted


def seconds_in_turn(inputs: Mapping[Path, np.ndarray]) -> dict[Path, float]:
    """Seconds that each ONNX file takes for its input, on one thread: the median of runs that alternate."""
    return {file: statistics.median(times) for file, times in times_in_turn(inputs).items()}


def times_in_turn(inputs: Mapping[Path, np.ndarray]) -> dict[Path, list[float]]:
    """The seconds of each of these runs."""
    sessions = {file: open_onnxruntime(file, threads=1) for file in inputs}
    seconds: dict[Path, list[float]] = {file: [] for file in inputs}
    for _ in range(_ROUNDS):
        for file, session in sessions.items():
            start = time.perf_counter()
            session(inputs[file])
            seconds[file].append(time.perf_counter() - start)
    return {file: times[1:] for file, times in seconds.items()}
