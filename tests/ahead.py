"""What takes a second or more in each process, and is always the same: done before processes are forked.

The server that forks them imports this; see `start` in `conftest`.
"""

from __future__ import annotations

import importlib
import io
import pkgutil
from functools import cache
from typing import Any

import matplotlib.figure
import once
import torch
from torch.onnx._internal.exporter import _registration

import pipeline
from pipeline.tracking.fingerprint import fingerprint

once.tables()

# How torch writes each of its operators in ONNX, and what it does when it exports its first model.
_onnxscript: Any = _registration.onnxscript_apis
_onnxscript.get_torchlib_ops = cache(_onnxscript.get_torchlib_ops)
torch.onnx.export(
    torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3), torch.nn.BatchNorm2d(1)).eval(),
    (torch.zeros(1, 1, 9, 9),),
    dynamo=True,
    verbose=False,
)

# matplotlib's fonts.
_figure = matplotlib.figure.Figure()
_figure.suptitle("$10^{-1}$")
for _format in ("png", "svg"):
    _figure.savefig(io.BytesIO(), format=_format)

# The pipeline, where it is this one: `warm` makes others import it again. Not the command line, which looks for
# packages that add to it.
for _module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
    if not _module.name.startswith(("pipeline.__main__", "pipeline.cli")) and ".files" not in _module.name:
        importlib.import_module(_module.name)

# What a stage depends on: the digests of its modules.
for _stage in ("prepare", "train", "evaluate", "export"):
    fingerprint(f"pipeline.stages.{_stage}", packages=())
