"""The command `demo` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import PROJECT

_SERVE = """
import sys
from pathlib import Path
from pipeline.handoff.onnxruntime_web import add_onnxruntime_web
from pipeline.serving.demo import serve_files
folder = Path(sys.argv[1])
add_onnxruntime_web(folder)
serve_files(folder, "127.0.0.1", 0)
"""


@contextmanager
def serve_demo(folder: Path, whole: bool = True) -> Iterator[str]:
    """The address that `demo` serves the page of the hand-off `folder` at; of less than a hand-off if not `whole`."""
    words = ["-m", "pipeline", "demo", str(folder), "--port", "0"] if whole else ["-c", _SERVE, str(folder)]
    process = subprocess.Popen(
        [sys.executable, *words],
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
