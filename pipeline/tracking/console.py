"""What this process prints, kept as plain text for the run that it works on."""

from __future__ import annotations

import re
import shlex
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pipeline.text import is_quiet, say, shown

_MOST = 10_000  # lines that are kept of what is printed before a run is open
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # colours, and what moves the cursor

_lines: deque[str] = deque(maxlen=_MOST)  # what was printed while no run was open
_file: IO[str] | None = None  # of the run that is open
_lock = threading.RLock()


@contextmanager
def kept(words: Sequence[str]) -> Iterator[None]:
    """Keep what is printed inside, by this command with the arguments `words`."""
    _lines.clear()
    _add(f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')} $ python -m pipeline {shlex.join(words)}")
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Kept(streams[0], True), _Kept(streams[1], False)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def say_result(line: str, result: str) -> None:
    """Print a line; if it is to be quiet, only the result that it tells of, for a script."""
    if is_quiet():
        stream = sys.stdout._stream if isinstance(sys.stdout, _Kept) else sys.stdout
        stream.write(f"{shown(result)}\n")
    elif line:
        say(line)


@contextmanager
def follow(path: Path) -> Iterator[None]:
    """Write what was printed, and what is printed inside, to the end of a file, line by line."""
    global _file
    with path.open("a", encoding="utf-8") as file:
        with _lock:
            _file = file
            while _lines:
                _add(_lines.popleft())
        try:
            yield
        finally:
            with _lock:
                _file = None


def text() -> str:
    """What was printed while no run was open."""
    with _lock:
        return "".join(f"{line}\n" for line in _lines)


def note(line: str) -> None:
    """Keep a line that is printed when the run is closed already."""
    with _lock:
        _add(line)


def _add(line: str) -> None:
    """Keep a line; what goes to a file is there even if the process is killed."""
    line = shown(_ESCAPE.sub("", line))
    if _file is None:
        _lines.append(line)
        return
    with suppress(OSError):  # a full disk must not end a training for this
        _file.write(f"{line}\n")
        _file.flush()


class _Kept:
    """A stream whose lines are kept, also what `quietly` hides. A line that is overwritten, as bars are, is not."""

    def __init__(self, stream: IO[str], is_output: bool) -> None:
        self._stream, self._begun, self._is_output = stream, "", is_output

    def write(self, text: str) -> int:
        with _lock:
            *lines, self._begun = (self._begun + text).split("\n")
            for line in lines:
                if "\r" not in line.rstrip("\r"):
                    _add(line.rstrip("\r"))
            self._begun = self._begun[max(0, self._begun.rfind("\r")) :]  # of a bar, only the last state
        return len(text) if self._is_output and is_quiet() else self._stream.write(text)

    def isatty(self) -> bool:
        return not is_quiet() and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
