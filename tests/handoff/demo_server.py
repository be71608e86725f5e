"""The command `demo` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import PROJECT


@contextmanager
def serve_demo(folder: Path) -> Iterator[str]:
    """The address that `demo` serves the page of the hand-off `folder` at."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "demo", str(folder), "--port", "0"],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("demo: http://127.0.0.1:"), line
        yield line.split()[1]
    finally:
        process.terminate()
        process.wait()
