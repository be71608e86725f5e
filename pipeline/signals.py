"""Ctrl-C, SIGTERM and SIGHUP: the first one is obeyed at the next good moment, a second one at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_SAME_REQUEST = 1.0  # seconds: Ctrl-C under `mlflow run` comes from the terminal, and as SIGTERM from `mlflow run`

_asked: tuple[signal.Signals, float] | None = None  # the first signal, and when it came
_deferring = False


class Stopped(BaseException):
    """A signal asks this process to stop. Not an `Exception`: code that handles failures must not swallow it."""

    def __init__(self, number: signal.Signals) -> None:
        self.number, self.name = number, number.name
        super().__init__(self.name)


def as_stop(error: BaseException) -> BaseException:
    """The error; Python's own for Ctrl-C, as in a notebook, where nothing here is installed, as `Stopped`."""
    return Stopped(signal.SIGINT) if isinstance(error, KeyboardInterrupt) else error


def install() -> None:
    """Have the signals raise `Stopped` in the main thread, except those that our parent process has set to ignore."""
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handle)


class Deferred:
    """What is known inside `deferred`."""

    @property
    def asked(self) -> bool:
        """Whether a signal asks to stop."""
        return _asked is not None

    def check(self) -> None:
        """Raise `Stopped` if a signal asks for it: now is a good moment."""
        if _asked:
            raise Stopped(_asked[0])


@contextmanager
def deferred() -> Iterator[Deferred]:
    """Inside, the first signal is only noted, until `check` or the end; a second one raises `Stopped` at once."""
    global _deferring
    _deferring = True
    signals = Deferred()
    try:
        yield signals
    finally:
        _deferring = False
    signals.check()


@contextmanager
def noting(text: Callable[[], str]) -> Iterator[None]:
    """Have the message of a signal say something more, as it is known then."""
    try:
        yield
    except Stopped as stopped:
        stopped.add_note(text())
        raise


def _handle(number: int, _frame: FrameType | None) -> None:
    global _asked
    now = time.monotonic()
    if _asked and now - _asked[1] < _SAME_REQUEST:
        return
    first = _asked is None
    _asked = (signal.Signals(number), now)
    if not (first and _deferring):
        raise Stopped(_asked[0])
