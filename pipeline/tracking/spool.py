"""What a run has to tell the tracking store: written to disk first, and sent from there by a thread, in order."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.errors import ParityError, PipelineError, counted
from pipeline.text import say
from pipeline.tracking.event_log import Event, EventLog

_FILES = "files"
_MOST = 32  # groups sent at once; only one after a failure, so that something gets through
_IN_ANY_ORDER = {"values", "artifact", "dataset"}
_FAILURES = 5  # of one group after which others are tried first, if the store answers
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0  # seconds between two tries
_PATIENCE, _LITTLE_PATIENCE = 10.0, 2.0  # seconds to wait for a store that fails; when that was in vain before
_REPORT_AFTER = 3.0  # seconds of waiting after which the user is told why

unsent: list[str] = []  # a line for every spool of this process that was closed with something left in it


class RefusedError(PipelineError):
    """The store answered, and will answer the same if it is asked again."""


class Spool:
    """The events of one run on their way to the store; at most one process has the folder open.

    The thread that sends reads and marks the log; everything else only appends to it. Both hold `_changed` for it.
    """

    def __init__(self, folder: Path, send: Callable[[Path, list[Event]], None]) -> None:
        """Open the spool; what is left from before is sent first.

        Args:
            folder: is made if need be.
            send: called in the thread with the folder and the events of one or more groups; with none, to see whether
                the store answers. It raises `RefusedError` if it is no use to try again; `ParityError` if the store has
                something else than was sent, which is raised where somebody waits; anything else to be called again.
        """
        self.folder = folder
        self._send = send
        (folder / _FILES).mkdir(parents=True, exist_ok=True)
        self._log = EventLog(folder)
        for number in self._log.damaged:
            say(f"tracking: {self._log.path} is damaged: record {number} is lost", err=True)
        self.error: Exception | None = None  # of the last try, if it failed
        self._waiting = self._log.unsent  # the numbers of the groups to send, in order
        self._refusal: RefusedError | None = None  # the first one; what was refused is kept for the next who opens this
        self._mismatch: ParityError | None = None  # for whoever waits
        self._patience = _PATIENCE
        self._closing = False
        self._changed = threading.Condition()
        self._hurry = threading.Event()  # ends a pause between two tries
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)
        self._thread.start()

    @property
    def reason(self) -> Exception | None:
        """Why something is not sent, as far as that is known."""
        return self._refusal or self.error

    @property
    def events(self) -> list[Event]:
        """Those that were here when the spool was opened, sent or not, and those since."""
        with self._changed:
            return [event for group in self._log.groups for event in group]

    def new_file(self, name: str) -> Path:
        """A path to write a file (or to make a folder) at, to name in an event; no other caller gets it."""
        for number in range(len(self._log.groups), 1_000_000_000):
            folder = self.folder / _FILES / f"{number:06}"
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder / name
        raise AssertionError

    def append(self, events: Sequence[Event]) -> None:
        """Add a group of events: when this returns they are on disk, all or none.

        Raises:
            PipelineError: they cannot be written.
        """
        with self._changed:
            self._log.append(events)
            self._waiting.append(len(self._log.groups) - 1)
            self._changed.notify_all()

    def flush(self) -> bool:
        """Wait until everything is sent. False: the store does not answer, or has refused something.

        However long a store has been away before, it is given time to answer now; after a wait in vain, less.

        Raises:
            ParityError: the store has something else than was sent.
        """
        began = time.monotonic()
        reported = False
        self._hurry.set()
        with self._changed:
            while self._waiting:
                waited = time.monotonic() - began
                if not self._thread.is_alive():
                    return False
                if self.error and waited > self._patience:
                    self._patience = _LITTLE_PATIENCE
                    return False
                if not reported and waited > _REPORT_AFTER:
                    left, total = len(self._waiting), len(self._log.groups)
                    say(f"tracking: waiting for the store to take the last {left} of {counted(total, 'record')}")
                    reported = True
                self._changed.wait(0.2)
            if mismatch := self._mismatch:
                self._mismatch = None
                raise mismatch
        return self._refusal is None

    def close(self) -> None:
        """Send what is left, and remove the spool if the store has all of it; else add a line to `unsent`."""
        try:
            self.flush()
        except ParityError as error:
            unsent.append(str(error))
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            self._hurry.set()
            self._thread.join(timeout=0.5)
            total = len(self._log.groups)
            if left := len(self._log.unsent):
                reason = f": {_shortened(self.reason)}" if self.reason else ""
                unsent.append(f"{left} of {counted(total, 'record')} not sent, but kept in {self.folder}{reason}")
            else:
                self._log.remove()
                shutil.rmtree(self.folder / _FILES, ignore_errors=True)

    def _work(self) -> None:
        """Send until the spool is closed. What the store does not take does not hold up the rest."""
        pause, most, failures = _FIRST_PAUSE, _MOST, 0
        while numbers := self._next(most):
            error = self._try(numbers)
            if error is None:
                pause, most, failures = _FIRST_PAUSE, min(2 * most, _MOST), 0
            elif len(numbers) > 1:
                most = 1  # some may get through
            elif isinstance(error, RefusedError):
                with self._changed:
                    self._waiting.remove(numbers[0])
                    self._refusal = self._refusal or error
                    self._changed.notify_all()
            else:
                failures += 1
                if failures % _FAILURES == 0 and len(self._waiting) > 1 and self._store_answers():
                    with self._changed:  # so it is this group: others first
                        self._waiting.remove(numbers[0])
                        self._waiting.append(numbers[0])
                hurry = self._hurry.wait(pause)
                self._hurry.clear()
                pause = _FIRST_PAUSE if hurry else min(2 * pause, _LONGEST_PAUSE)

    def _try(self, numbers: Sequence[int]) -> Exception | None:
        """Send the groups with these numbers; why that failed, if it did."""
        error: Exception | None = None
        try:
            self._send(self.folder, [event for number in sorted(numbers) for event in self._log.current(number)])
        except ParityError as mismatch:
            self._mismatch = mismatch  # the store has it, so there is no more of it to send
        except Exception as failure:
            error = failure
        with self._changed:
            self.error = error
            if error is None:
                self._patience = _PATIENCE
                self._waiting = [number for number in self._waiting if number not in numbers]
                self._log.mark_sent(numbers)
            self._changed.notify_all()
        return error

    def _store_answers(self) -> bool:
        try:
            self._send(self.folder, [])
        except Exception:
            return False
        return True

    def _next(self, most: int) -> list[int]:
        """The numbers of the groups to send at once, when there are any; none when the spool is closing."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._waiting)
            if self._closing:
                return []
            waiting = self._waiting[:most]
        groups = [self._log.groups[number] for number in waiting]
        count = 1  # kinds whose order matters go alone
        while count < len(groups) and all(event["kind"] in _IN_ANY_ORDER for event in (*groups[0], *groups[count])):
            count += 1
        return waiting[:count]


def count_unsent(folder: Path) -> int:
    """How many records in `folder` are left to send."""
    return len(EventLog(folder).unsent)


def knows_end(folder: Path) -> bool:
    """Whether how a run ended is in `folder`, and left to send."""
    log = EventLog(folder)
    return any(event["kind"] == "end" for number in log.unsent for event in log.groups[number])


def _shortened(error: Exception) -> str:
    """One line: what was asked stands at the beginning of an error, and why it failed at the end."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 240 else f"{text[:100]} ... {text[-140:]}"
