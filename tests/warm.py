"""Processes of `python -m pipeline` that are forked from one with the slow imports behind it; see `run_cli`."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from pathlib import Path

# Of others only: each process imports the pipeline itself.
_SLOW = (
    *("matplotlib.figure", "mlflow", "mlflow.onnx", "mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store"),
    *("onnxruntime", "onnxscript", "torch._dynamo", "torch.onnx._internal.exporter._core"),
)
forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(list(_SLOW))


def run_pipeline(arguments: list[str], cwd: Path, environment: dict[str, str], folder: str) -> None:
    """`python -m pipeline`, with what it prints in the files `out` and `err` in `folder`."""
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(Path(folder) / name, os.O_CREAT | os.O_WRONLY), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    sys.argv = ["pipeline", *arguments]
    runpy.run_module("pipeline", run_name="__main__")
