"""Work in a thread beside reading and writing: in order, and with errors in their turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pipeline.denoising.overlap import overlapped

MAIN = threading.main_thread()


def test_the_next_item_is_read_and_the_former_written_while_the_work_goes_on() -> None:
    """Each step waits for one that only comes first if the two go on at once."""
    is_read = [threading.Event() for _ in range(4)]
    is_written = [threading.Event() for _ in range(3)]

    def read() -> Iterator[int]:
        for number in range(3):
            is_read[number].set()
            yield number
        is_read[3].set()

    def work(number: int) -> int:
        assert threading.current_thread() is not MAIN
        assert is_read[number + 1].wait(60)
        assert not number or is_written[number - 1].wait(60)
        return number * 10

    found = []
    for number, result in overlapped(work, read(), lambda number: True):
        found.append((number, result))
        is_written[number].set()
    assert found == [(0, 0), (1, 10), (2, 20)]


def test_long_work_is_done_in_the_callers_thread_and_nothing_is_read_meanwhile() -> None:
    steps: list[str] = []

    def read() -> Iterator[int]:
        for number in range(4):
            steps.append(f"read {number}")
            yield number

    def work(number: int) -> bool:
        if number % 2:
            steps.append(f"work {number}")
        return threading.current_thread() is MAIN

    for number, is_here in overlapped(work, read(), lambda number: number % 2 == 0):
        steps.append(f"write {number}")
        assert is_here == (number % 2 == 1)
    assert steps == [
        *("read 0", "read 1", "write 0", "work 1", "write 1"),
        *("read 2", "read 3", "write 2", "work 3", "write 3"),
    ]


def test_an_error_comes_in_its_turn() -> None:
    results = overlapped(lambda number: 1 / (2 - number), range(5), lambda number: True)
    assert [next(results)[0] for _ in range(2)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
