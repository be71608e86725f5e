"""What takes others' code a second or two in each process, and is always the same: done before processes are forked.

The server that forks them imports this; see `start` in `conftest`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import once
from torch.onnx._internal.exporter import _registration

once.tables()

# How torch writes each of its operators in ONNX.
_onnxscript: Any = _registration.onnxscript_apis
_onnxscript.get_torchlib_ops = cache(_onnxscript.get_torchlib_ops)
_onnxscript.get_torchlib_ops()
