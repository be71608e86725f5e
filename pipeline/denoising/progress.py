"""How far `denoise` is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
from types import TracebackType

import click

from pipeline.errors import counted
from pipeline.text import say

_EVERY = 30.0  # seconds


class ProgressDisplay:
    """Shows how many files are done. A context manager: leaving it ends the line of the bar."""

    def __init__(self, files: int, every: float = _EVERY) -> None:
        self._files, self._every, self._done = files, every, 0
        self._bar = click.progressbar(length=files, label="denoise", file=sys.stderr) if sys.stderr.isatty() else None
        self._end = threading.Event()
        # A thread, because a large file alone can take minutes.
        self._teller = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> ProgressDisplay:
        if self._bar:
            self._bar.__enter__()
        else:
            self._teller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.__exit__(kind, error, trace)
        else:
            self._end.set()
            self._teller.join()

    def update(self, files: int = 1) -> None:
        """So many more files are done, or skipped."""
        self._done += files
        if self._bar:
            self._bar.update(files)

    def _tell(self) -> None:
        while not self._end.wait(self._every):
            say(f"denoise: {self._done:,} of {counted(self._files, 'file')} so far", err=True)
