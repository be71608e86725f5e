"""What a run has to tell the tracking store, on disk: a file that survives whatever befalls the process."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import write_file

_BEGINNING = '{"crc": '  # of every group, and nowhere inside of one, where quotes are escaped

Event = dict[str, Any]
"""A `kind`, and what that needs, as JSON. Paths in it are relative to the folder of the log."""


class EventLog:
    """Groups of events in a folder: `events.jsonl`, and in `sent.bytes` what of it the store has.

    Every group is one line with a checksum, and is only ever appended: whenever the process dies, the groups before are
    whole, and the one that was being written is not there. A flipped bit costs the group that it is in, and is found.
    A file rather than SQLite, which has no checksums, loses all of a database with the wrong page of it, and needs room
    for a journal on a full disk.

    Attributes:
        groups: all, sent or not, since the run was opened for the first time; those that are damaged are empty.
        sent: the numbers, from 0, of those that the store has. After a crash it may have more: sending twice must do no
            harm.
        damaged: the numbers of those that are damaged, from 1.
    """

    def __init__(self, folder: Path) -> None:
        """Read what is in `folder`, if anything.

        Raises:
            PipelineError: it cannot be read.
        """
        self.path = folder / "events.jsonl"
        self._sent_path = folder / "sent.bytes"
        self.groups: list[list[Event]] = []
        self.damaged: list[int] = []
        self._ends: list[int] = []  # of every group, in bytes
        try:
            data = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise PipelineError(f"cannot read {self.path}: {error.strerror or error}") from error
        for group, end in _parsed(data.decode("latin-1")):  # it is all ASCII, unless it is damaged
            self.groups.append(group or [])
            self._ends.append(end)
            if group is None:
                self.damaged.append(len(self.groups))
        self.sent = self._read_sent()

    @property
    def unsent(self) -> list[int]:
        """The numbers of the groups that the store does not have, in order."""
        return [number for number in range(len(self.groups)) if number not in self.sent]

    @property
    def _size(self) -> int:
        """Bytes of the file that count; there may be more, half-written."""
        return self._ends[-1] if self._ends else 0

    def current(self, number: int) -> list[Event]:
        """The events of a group, less what a later group, which the store has already, says anew."""
        sent = [event for other in self.sent if other > number for event in self.groups[other]]
        later = {place for event in sent for place in _sets(event)}
        events = []
        for event in self.groups[number]:
            if "tags" in event:
                tags = {key: text for key, text in event["tags"].items() if ("tag", key) not in later}
                events.append({**event, "tags": tags})
            elif not (places := _sets(event)) or not places <= later:
                events.append(event)
        return events

    def append(self, events: Sequence[Event]) -> None:
        """Add a group: when this returns it is on disk; if it fails, nothing of it counts.

        Raises:
            PipelineError: it cannot be written.
        """
        text = json.dumps(list(events))
        line = json.dumps({"crc": zlib.crc32(text.encode()), "events": text}).encode() + b"\n"
        try:
            with self.path.open("ab") as file:
                file.truncate(self._size)  # what was half-written when the process died, or the disk was full
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise PipelineError(f"cannot write {self.path}: {error.strerror or error}") from error
        self.groups.append(list(events))
        self._ends.append(self._size + len(line))

    def mark_sent(self, numbers: Iterable[int]) -> None:
        """Note that the store has the groups with these numbers."""
        self.sent.update(numbers)
        before = next(iter(self.unsent), len(self.groups))  # the store has all groups before this one, and maybe others
        ends = [self._ends[number] for number in sorted(self.sent) if number >= before - 1]
        with suppress(OSError):  # a full disk: sending twice does no harm
            write_file(self._sent_path, " ".join(map(str, ends if before else [0, *ends])).encode())

    def remove(self) -> None:
        """Remove the files."""
        # The log goes last: what is added to a new one must not count as sent. `sent` is from former versions, which
        # counted lines in it; what they left is sent again.
        for path in (self._sent_path, self._sent_path.with_name("sent"), self.path):
            path.unlink(missing_ok=True)

    def _read_sent(self) -> set[int]:
        """The numbers of the groups that the store has; none where that is not known."""
        try:
            first, *others = [int(end) for end in self._sent_path.read_text().split()]
        except (OSError, ValueError):
            return set()
        if first > self._size:
            return set()
        return {number for number, end in enumerate(self._ends) if end <= first or end in others}


def _sets(event: Event) -> set[tuple[str, ...]]:
    """What of a run an event sets, and another one may set to something else. (A metric keeps all of its points.)"""
    match event["kind"]:
        case "artifact":
            return {("artifact", event["path"], Path(event["file"]).name)}
        case "model" | "end":
            return {(event["kind"],)}
        case _:
            return {("tag", key) for key in event.get("tags", {})}


def _parsed(text: str) -> Iterator[tuple[list[Event] | None, int]]:
    """The groups of a log, None for one that is damaged, and where each ends. Any character may stand for a newline."""
    start = 0
    while start < len(text):
        group: list[Event] | None = None
        try:
            record, end = json.JSONDecoder().raw_decode(text, start)
            if zlib.crc32(record["events"].encode()) == record["crc"]:
                group = json.loads(record["events"])
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        if group is None:
            newline, beginning = text.find("\n", start), text.find(_BEGINNING, start + 1)
            if newline < 0 and beginning < 0:  # half-written when the process died: nobody relies on it
                return
            # Where the newline is damaged as well, the next group shows where this one ends.
            end = min(place for place in (newline, beginning - 1) if place >= start)
        start = end + 1
        yield group, start
