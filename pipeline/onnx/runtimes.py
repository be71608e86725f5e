"""The runtimes that the gate runs a file in. Adding one is a function and an entry in `RUNTIMES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from onnx.reference import ReferenceEvaluator

from pipeline.onnx.export import INPUT, OUTPUT

Session = Callable[[np.ndarray], np.ndarray]
"""Noisy images to denoised images, both float32 [N, 1, H, W]."""


@dataclass(frozen=True)
class Runtime:
    """A way to run a file."""

    open: Callable[[Path], Session]
    largest_probe: int | None = None  # pixels in all; bigger probes are left out; None: no limit


def _onnxruntime(level: str) -> Runtime:
    def open_session(path: Path) -> Session:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.log_severity_level = 4
        # Threads that spin while they wait slow down torch's threads beside them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda noisy: session.run([OUTPUT], {INPUT: noisy})[0]

    return Runtime(open_session)


def _reference(path: Path) -> Session:
    evaluator = ReferenceEvaluator(str(path))

    def run(noisy: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):  # NaN and overflow are among the probes
            return evaluator.run([OUTPUT], {INPUT: noisy})[0]

    return run


SERVING = "onnxruntime ORT_ENABLE_ALL"  # onnxruntime's default, which a consumer gets

RUNTIMES: dict[str, Runtime] = {
    **{f"onnxruntime {level}": _onnxruntime(level) for level in onnxruntime.GraphOptimizationLevel.__members__},
    # Written in NumPy from the specification: shares no kernel with onnxruntime. Slow.
    "onnx ReferenceEvaluator": Runtime(_reference, largest_probe=1024),
}
