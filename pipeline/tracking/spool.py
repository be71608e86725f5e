"""What a run has to tell the tracking store: kept on disk first, and sent from there by a thread, in order."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from pipeline.errors import ParityError, PipelineError
from pipeline.files import write_file

Event = dict[str, Any]
"""A `kind`, and what that needs, as JSON. Paths in it are relative to the folder of the spool."""

EVENTS = "events.jsonl"
_SENT, _FILES = "sent", "files"
_MOST = 32  # groups sent at once; only one after a failure, so that something gets through
_IN_ANY_ORDER = {"values", "artifact", "dataset"}
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0  # seconds between two tries
_PATIENCE = 10.0  # seconds of waiting without success after which one is told that the store does not answer
_TELL_AFTER = 3.0  # seconds after which one who waits is told what for

unsent: list[str] = []  # a line for every spool of this process that was closed with something left in it


class RefusedError(PipelineError):
    """The store answered, and will answer the same if it is asked again."""


class Spool:
    """The events of one run, in `folder`; at most one process has it open.

    `events.jsonl` gets a line for every group of events, with a checksum, and is only ever appended to: whatever moment
    the process dies at, the groups before are whole. `sent` is the number of groups that the store has. A group may be
    sent twice, if the process died in between: sending must not mind.
    """

    def __init__(self, folder: Path, send: Callable[[Path, list[Event]], None]) -> None:
        """Open the spool; what is left from before is sent first.

        Args:
            folder: is made if need be.
            send: called in the thread with the folder and the events of one or more groups. It raises `RefusedError` if
                it is no use to try again, `ParityError` if the store has something else than was sent (that is told to
                whoever waits, and the rest is sent), anything else to be called again.
        """
        self.folder = folder
        self._send = send
        (folder / _FILES).mkdir(parents=True, exist_ok=True)
        self._groups, self._size, damaged = _read(folder / EVENTS)
        for number in damaged:
            click.echo(f"tracking: {folder / EVENTS} is damaged in line {number}: what was in it is lost", err=True)
        self._sent = _read_sent(folder / _SENT, len(self._groups))
        self.error: Exception | None = None  # of the last try
        self._failure: ParityError | None = None  # for whoever waits
        self._failed_at = 0.0  # when the last try that failed was begun
        self._hurry = False  # somebody waits: try at once
        self._in_vain = False  # somebody has waited, and nothing was sent since
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)
        self._thread.start()

    @property
    def events(self) -> list[Event]:
        """Those that were here when the spool was opened, sent or not, and those since."""
        with self._changed:
            return [event for group in self._groups for event in group]

    def new_file(self, name: str) -> Path:
        """A path to write a file (or to make a folder) at, to name in an event; nobody else is given it."""
        for number in range(len(self._groups), 1_000_000_000):
            folder = self.folder / _FILES / f"{number:06}"
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder / name
        raise AssertionError

    def append(self, events: Sequence[Event]) -> None:
        """Keep a group of events: when this returns they are on disk, all or none.

        Raises:
            PipelineError: they cannot be written.
        """
        text = json.dumps(list(events))
        line = json.dumps({"crc": zlib.crc32(text.encode()), "events": text}) + "\n"
        path = self.folder / EVENTS
        try:
            with path.open("ab") as file:
                file.truncate(self._size)  # a group that was half-way written when the process died, or the disk full
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise PipelineError(f"cannot write {path}: {error.strerror or error}") from error
        with self._changed:
            self._size += len(line)
            self._groups.append(list(events))
            self._changed.notify_all()

    def flush(self) -> bool:
        """Wait until all is sent. False: the store does not answer, or has refused something.

        However long a store has been away before, it is given time to answer now; after a wait in vain, one try.

        Raises:
            ParityError: the store has something else than was sent.
        """
        began = time.monotonic()
        told = False
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            while self._sent < len(self._groups):
                now = time.monotonic()
                if isinstance(self.error, RefusedError) or not self._thread.is_alive():
                    return False
                if self.error and (now - began > _PATIENCE or (self._in_vain and self._failed_at > began)):
                    self._in_vain = True
                    return False
                if not told and now - began > _TELL_AFTER:
                    left = len(self._groups) - self._sent
                    click.echo(
                        f"tracking: waiting for the store to take the last {left} of {len(self._groups)} records"
                    )
                    told = True
                self._changed.wait(0.2)
            if failure := self._failure:
                self._failure = None
                raise failure
        return True

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
            self._thread.join(timeout=0.5)
            left = len(self._groups) - self._sent
            if left:
                reason = f": {_shortened(self.error)}" if self.error else ""
                unsent.append(f"{left} of {len(self._groups)} records are not sent, and kept in {self.folder}{reason}")
            else:
                for name in (EVENTS, _SENT):
                    (self.folder / name).unlink(missing_ok=True)
                shutil.rmtree(self.folder / _FILES, ignore_errors=True)

    def _work(self) -> None:
        pause, most = _FIRST_PAUSE, _MOST
        while True:
            with self._changed:
                while self._sent == len(self._groups) and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                groups = self._groups[self._sent :]
            count = _sent_together(groups, most)
            began = time.monotonic()
            try:
                self._send(self.folder, [event for group in groups[:count] for event in group])
            except RefusedError as error:
                with self._changed:
                    self.error = error
                    self._changed.notify_all()
                return
            except ParityError as error:
                self._failure = error  # there is no more to send of it
            except Exception as error:
                with self._changed:
                    self.error, self._failed_at = error, began
                    self._changed.notify_all()
                    hurry = self._changed.wait_for(lambda: self._closing or self._hurry, pause)
                    self._hurry = False
                pause, most = _FIRST_PAUSE if hurry else min(2 * pause, _LONGEST_PAUSE), 1
                continue
            with suppress(OSError):  # a full disk: sending twice does no harm
                write_file(self.folder / _SENT, str(self._sent + count).encode())
            pause, most = _FIRST_PAUSE, min(2 * most, _MOST)
            with self._changed:
                self.error, self._hurry, self._in_vain = None, False, False
                self._sent += count
                self._changed.notify_all()


def count_unsent(folder: Path) -> int:
    """How many records in `folder` are left to send."""
    count = len(_read(folder / EVENTS)[0])
    return count - _read_sent(folder / _SENT, count)


def _sent_together(groups: list[list[Event]], most: int) -> int:
    """How many groups, from the first on, to send at once; kinds whose order matters go alone."""
    count = 1
    while count < min(len(groups), most) and all(
        event["kind"] in _IN_ANY_ORDER for event in (*groups[0], *groups[count])
    ):
        count += 1
    return count


def _shortened(error: Exception) -> str:
    """One line: what was asked stands at the beginning of an error, and why it failed at the end."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 240 else f"{text[:100]} ... {text[-140:]}"


def _read(path: Path) -> tuple[list[list[Event]], int, list[int]]:
    """The groups of a file, how many bytes they take, and the numbers of damaged lines, whose groups are empty.

    What is cut off after the last line was never kept.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0, []
    except OSError as error:
        raise PipelineError(f"cannot read {path}: {error.strerror or error}") from error
    groups: list[list[Event]] = []
    damaged = []
    lines = data.splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if zlib.crc32(record["events"].encode()) != record["crc"]:
                raise ValueError
            groups.append(json.loads(record["events"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            groups.append([])
            damaged.append(number)
    return groups, sum(map(len, lines)), damaged


def _read_sent(path: Path, count: int) -> int:
    """How many of `count` groups were sent; 0 where that is not known, because sending twice does no harm."""
    try:
        sent = int(path.read_text())
    except (OSError, ValueError):
        return 0
    return sent if 0 <= sent <= count else 0
