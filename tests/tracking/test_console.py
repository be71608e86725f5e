"""What is printed is kept with the run: lines as plain text, no bars, no passwords."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest

from pipeline.errors import one_line
from pipeline.text import say
from pipeline.tracking import console

HEADING = "$ python -m pipeline run --variance 0.01"


@pytest.fixture
def printed(tmp_path: Path) -> Path:
    return tmp_path / "console.log"


def lines(path: Path) -> list[str]:
    heading, *rest = path.read_text().splitlines()
    assert heading.endswith(HEADING)
    return rest


def test_lines_from_before_a_run_is_open_come_first_and_those_after_it_do_not_count(printed: Path) -> None:
    with console.kept(["run", "--variance", "0.01"]):
        say("prepare: done")
        with console.follow(printed):
            say("train: done", "two\nlines")
            print("a warning", file=sys.stderr)
            print("half", end="")
            assert lines(printed)[-1] == "a warning"  # at once, whatever happens to the process
            print(" of a line")
        say("run: over")
    assert lines(printed) == ["prepare: done", "train: done", r"two\nlines", "a warning", "half of a line"]


def test_bars_and_colours_are_left_out(printed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with console.kept(["run", "--variance", "0.01"]), console.follow(printed):
        with click.progressbar(length=1000, label="train", file=sys.stderr) as bar:
            for _ in range(1000):
                bar.update(1)
        print("\x1b[31mred\x1b[0m", file=sys.stderr)
    assert lines(printed) == ["red"]


def test_passwords_are_left_out(printed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2hunter2")
    with console.kept(["run", "--variance", "0.01"]), console.follow(printed):
        print("https://me:secret@example.org", "hunter2hunter2")
    assert lines(printed) == ["https://***@example.org ***"]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")])
def test_a_want_of_memory_says_what_needs_less(error: Exception) -> None:
    assert one_line(error).startswith("no memory left: ")
    assert "--batch-size" in one_line(error)
