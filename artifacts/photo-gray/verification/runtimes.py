"""The runtimes that a file can be verified in. Adding one is a function and an entry in `RUNTIMES`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .graph import INPUT, OUTPUT

Session = Callable[[np.ndarray], np.ndarray]
"""Noisy images to denoised images, both [N, C, H, W]."""


@dataclass(frozen=True)
class Runtime:
    """A way to run an ONNX file."""

    module: str  # that must be importable
    package: str  # to install for it
    open: Callable[[Path], Session]
    largest_input: int | None = None  # pixels, over the whole batch, that take a reasonable time; None: no limit


def open_onnxruntime(path: Path, level: str = "ORT_ENABLE_ALL", threads: int = 0) -> Session:
    """`path` in onnxruntime on the CPU.

    Args:
        path: of the ONNX file.
        level: of optimization; the default is onnxruntime's own.
        threads: 0 for one per core.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Threads that spin while they wait slow down whatever else computes on the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda noisy: session.run([OUTPUT], {INPUT: noisy})[0]


def open_reference(path: Path) -> Session:
    """`path` in ONNX's own evaluator: NumPy written from the specification, slow, and independent of all runtimes."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(path))

    def run(noisy: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):  # NaN and overflow may be among the inputs
            return evaluator.run([OUTPUT], {INPUT: noisy})[0]

    return run


def _open_tract(path: Path) -> Session:
    import tract

    model = tract.onnx().load(str(path)).into_model().into_runnable()
    return lambda noisy: model.run([np.ascontiguousarray(noisy)])[0].to_numpy()


def _open_opencv(path: Path) -> Session:
    import cv2

    net = cv2.dnn.readNetFromONNX(str(path))

    def run(noisy: np.ndarray) -> np.ndarray:
        net.setInput(noisy, INPUT)
        return net.forward(OUTPUT)

    return run


def _open_openvino(path: Path) -> Session:
    _keep_from_telling()
    import openvino

    # By default it computes in bfloat16 on processors that support it, with errors of 7e-3.
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda noisy: compiled([noisy])[OUTPUT]


def _keep_from_telling() -> None:
    """OpenVINO tells its makers when it is imported. Not from here, unless the user has agreed with `opt_in_out`."""
    consent = Path("~/intel/openvino_telemetry").expanduser()
    if not (consent.is_file() and consent.read_text(errors="replace").strip() == "1"):
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as if it were not installed


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime("onnxruntime", "onnxruntime", open_onnxruntime),
    "reference": Runtime("onnx", "onnx", open_reference, largest_input=4096),
    "tract": Runtime("tract", "tract", _open_tract),
    "opencv": Runtime("cv2", "opencv-python-headless", _open_opencv),
    "openvino": Runtime("openvino", "openvino", _open_openvino),
}


def is_installed(runtime: str) -> bool:
    return find_spec(RUNTIMES[runtime].module) is not None
