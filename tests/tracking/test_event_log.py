"""The log of a run on disk: whole or not there after a kill, damage is found, nothing counts as sent that is not."""

from __future__ import annotations

import json
import os
import signal
import zlib
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.tracking.event_log import Event, EventLog


def event(number: int) -> Event:
    return {"kind": "values", "number": number, "text": 'ü "quoted"\n'}


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    log = EventLog(tmp_path)
    for number in range(5):
        log.append([event(number), event(number + 10)])
    return log


def numbers(log: EventLog) -> list[int | None]:
    return [group[0]["number"] if group else None for group in log.groups]


def test_what_was_appended_is_read(log: EventLog, tmp_path: Path) -> None:
    again = EventLog(tmp_path)
    assert again.groups == log.groups == [[event(number), event(number + 10)] for number in range(5)]
    assert (again.unsent, again.damaged) == ([*range(5)], [])
    for numbers in ([1, 2], [4], [0]):  # in any order
        again.mark_sent(numbers)
        assert EventLog(tmp_path).unsent == again.unsent
    assert again.unsent == [3]
    again.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lost", [1, 2, 3, 100])
def test_a_group_is_there_as_a_whole_or_not_at_all(lost: int, log: EventLog, tmp_path: Path) -> None:
    size = log.path.stat().st_size
    os.truncate(log.path, size - min(lost, size))  # as if the process had died while it wrote
    again = EventLog(tmp_path)
    whole = 5 if lost == 1 else 4  # 1: all but the newline
    assert (numbers(again), again.damaged) == ([*range(whole)], [])
    again.append([event(7)])
    assert numbers(EventLog(tmp_path)) == [*range(whole), 7]


def test_a_process_killed_between_two_groups_leaves_the_first(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        log = EventLog(tmp_path)
        log.append([event(0)])
        log.path.open("ab").write(b'{"crc": 1, "eve')
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert numbers(EventLog(tmp_path)) == [0]


def test_a_flipped_bit_anywhere_costs_one_group_at_most_and_is_found(log: EventLog, tmp_path: Path) -> None:
    data = log.path.read_bytes()
    log.mark_sent([0, 1, 3])
    for place in {*range(0, len(data), 3), *(place for place, byte in enumerate(data) if byte == 10)}:
        log.path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        again = EventLog(tmp_path)
        hit = data[:place].count(b"\n")
        if data[place : place + 1] == b"\n":  # what is between two groups does not matter
            wanted: list[int | None] = [*range(5)]
        else:
            wanted = [None if number == hit else number for number in range(5)]
        assert numbers(again) == wanted, place
        assert again.damaged == ([hit + 1] if None in wanted else [])
        assert again.unsent == [2, 4]


def test_damage_to_a_whole_line_and_its_newline_costs_no_other(log: EventLog, tmp_path: Path) -> None:
    lines = log.path.read_bytes().splitlines(keepends=True)
    lines[2] = bytes(len(lines[2]))  # as a file system leaves it after a power failure
    log.path.write_bytes(b"".join(lines))
    again = EventLog(tmp_path)
    assert (numbers(again), again.damaged) == ([0, 1, None, 3, 4], [3])


def test_a_full_disk_is_reported_and_what_came_before_is_kept(log: EventLog, tmp_path: Path) -> None:
    kept = log.path.read_bytes()
    log.path.unlink()
    log.path.symlink_to("/dev/full")
    with pytest.raises(PipelineError, match=r"cannot write .*events\.jsonl: "):
        log.append([event(5)])
    assert len(log.groups) == 5
    log.path.unlink()
    log.path.write_bytes(kept + b'{"crc": 3, "ev')  # what fitted on it
    log.append([event(6)])
    assert numbers(EventLog(tmp_path)) == [0, 1, 2, 3, 4, 6]


@pytest.mark.parametrize("text", ["", "x", "-1", "10000000"])
def test_a_mark_that_cannot_be_right_counts_for_nothing(text: str, log: EventLog, tmp_path: Path) -> None:
    log.mark_sent(range(4))
    (tmp_path / "sent.bytes").write_text(text)
    assert EventLog(tmp_path).unsent == [*range(5)]


def test_a_log_of_the_former_version_is_sent_again(tmp_path: Path) -> None:
    text = json.dumps([event(0)])
    lines = [json.dumps({"crc": zlib.crc32(text.encode()), "events": text}) + "\n"] * 2
    (tmp_path / "events.jsonl").write_text("".join(lines))
    (tmp_path / "sent").write_text("1")
    log = EventLog(tmp_path)
    assert (numbers(log), log.unsent) == ([0, 0], [0, 1])
    log.remove()
    assert list(tmp_path.iterdir()) == []
