"""May a runtime open this file? A model from elsewhere may fill the memory or never end, however small its file is.

It may if it consists of operators on a list, and has answered in a process of its own, which can be ended.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from pipeline.errors import ArgumentError
from pipeline.files import cache_folder, sha256_bytes, sha256_file
from pipeline.text import say

SECONDS = 60.0  # for an answer on a tiny image, which takes one or two
_MEMORY = 16 * 2**30  # bytes of address space, where the system can limit it; most of it is reserved and never used
_SIDE = 32  # pixels
_FOREIGN, _GIVEN_UP = 3, 4  # exit codes: no model of images; the runtime refused it
_ROOT = Path(__file__).parents[2]  # where the package is imported from


def check_model(path: Path) -> None:
    """Make sure that an ONNX file can be opened. One that was opened before need not answer again.

    Raises:
        ArgumentError: it holds what models must not, the runtime refuses it, or it gives no answer in time.
    """
    passed = _mark(path)
    with suppress(OSError):
        if passed and passed.exists():
            return
    from pipeline.verification.graph import check_safe  # imports onnx

    if faults := [gate for gate in check_safe(path) if not gate.passed]:
        fault = faults[0]
        raise ArgumentError(f"{path} cannot be opened: {fault.gate}: {fault.value}; allowed: {fault.limit}")
    command = [sys.executable, "-B", "-m", __name__, str(path.resolve())]
    try:
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=SECONDS, errors="replace")
    except subprocess.TimeoutExpired as error:
        raise ArgumentError(
            f"{path} cannot be opened: it gave no answer on an image of {_SIDE}x{_SIDE} pixels in {SECONDS:g} s"
        ) from error
    if done.returncode == _GIVEN_UP:
        raise ArgumentError(f"{path} cannot be opened: {done.stdout.strip()}")
    if done.returncode not in (0, _FOREIGN):
        raise ArgumentError(f"{path} cannot be opened: on a small image, its process ended with code {done.returncode}")
    with suppress(OSError):
        if passed:
            passed.parent.mkdir(parents=True, exist_ok=True)
            passed.touch()


def _mark(path: Path) -> Path | None:
    """The empty file that says that a file was opened before, by this onnxruntime and these rules; None: no home."""
    rules = Path(__file__).parents[1] / "verification" / "graph.py"
    opened = " ".join([sha256_file(path), sha256_file(rules), version("onnxruntime")])
    try:
        return cache_folder() / "opened" / sha256_bytes(opened.encode())
    except RuntimeError:
        return None


def _try(path: str) -> int:
    """Open a file and denoise a black image; the exit code."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (noisy,) = session.get_inputs()
        shape = [1, noisy.shape[1] if len(noisy.shape) == 4 else 0, _SIDE, _SIDE]
        if noisy.type != "tensor(float)" or not isinstance(shape[1], int) or not 1 <= shape[1] <= 64:
            return _FOREIGN  # whoever opens it says what it is
        session.run(None, {noisy.name: np.zeros(shape, np.float32)})
    except Exception as error:  # onnxruntime raises errors of its own
        say(" ".join(str(error).split())[:500])
        return _GIVEN_UP
    return 0


if __name__ == "__main__":
    sys.exit(_try(sys.argv[1]))
