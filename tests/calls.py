"""Many command lines in one process, because each takes seconds to start."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from conftest import HANG, Result, environment, start
from warm import run_calls


def run_all(folder: Path, calls: Sequence[Sequence[str]], **variables: str) -> list[Result]:
    """How each command line of `calls` ends, run one after the other in `folder`."""
    with tempfile.TemporaryDirectory() as place:
        results = Path(place) / "results"
        process = start(run_calls, calls, folder, environment(**variables), results)
        process.join(HANG)
        process.kill()  # does nothing to one that has ended
        assert process.exitcode == 0
        return [Result(*result) for result in json.loads(results.read_text())]
