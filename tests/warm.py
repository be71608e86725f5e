"""Processes that are forked from one with the slow imports behind it; see `run_module`."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import runpy
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

PROJECT = Path(__file__).parent.parent
# Of others only: the benchmarks of kills and faults import the pipeline itself in each process.
SLOW = (
    *("matplotlib.figure", "mlflow", "mlflow.onnx", "mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store"),
    *("onnxruntime", "onnxscript.function_libs.torch_lib.ops", "networkx", "sqlalchemy.dialects.sqlite", "git"),
    *("torch._dynamo", "torch._functorch.aot_autograd", "torch._export.passes", "torch.export.pt2_archive"),
    *("torch.onnx._internal.exporter._core", "torch.onnx._internal.exporter._torchlib.ops"),
)
forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(list(SLOW))


def run_forked(module: str, arguments: list[str], cwd: Path, environment: dict[str, str], folder: str) -> None:
    """`python -m module`, with what it prints in the files `out` and `err` in `folder`."""
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(Path(folder) / name, os.O_CREAT | os.O_WRONLY), descriptor)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for whoever reads it meanwhile
    _go_to(cwd, environment)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def run_calls(calls: Sequence[Sequence[str]], cwd: Path, environment: dict[str, str], results: Path) -> None:
    """Many command lines in one process; writes the exit code, stdout and stderr of each to `results` as JSON.

    What is printed goes through the encodings that a terminal has.
    """
    _go_to(cwd, environment)
    from pipeline.cli.commands import main

    found = []
    for arguments in calls:
        code: object = None
        out = io.TextIOWrapper(io.BytesIO(), "utf-8")
        err = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main(list(arguments))
            except SystemExit as end:
                code = end.code
            except BaseException as error:
                code = repr(error)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read())
        found.append([code, *texts])
    results.write_text(json.dumps(found))


def _go_to(cwd: Path, environment: dict[str, str]) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    if environment.get("PYTHONPATH") != str(PROJECT):  # with other modules, or packages that add to the pipeline
        for name in [name for name in sys.modules if name.partition(".")[0] == "pipeline"]:
            del sys.modules[name]
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
