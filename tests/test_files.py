"""A folder is replaced as a whole: whenever the process dies or is stopped, the former one is there or comes back."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.files import finish_folder, new_folder, unfinished_folders
from pipeline.signals import Stopped


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "file").write_text("former")
    return tmp_path / "small"


def replace(target: Path, text: str = "new") -> None:
    with new_folder(target) as new:
        (new / "file").write_text(text)


def end_between_the_renames(monkeypatch: pytest.MonkeyPatch, end: Callable[[], None]) -> None:
    rename = Path.rename

    def rename_and_end(path: Path, other: Path) -> Path:
        done = rename(path, other)
        if other.name == "former":
            end()
        return done

    monkeypatch.setattr(Path, "rename", rename_and_end)


@pytest.fixture
def killed(target: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a process leaves that is killed between the two renames."""
    if os.fork() == 0:
        end_between_the_renames(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL))
        replace(target)
    os.wait()
    assert not target.exists()
    (scratch,) = unfinished_folders(target.parent)
    return scratch


def test_a_folder_is_replaced_as_a_whole(target: Path) -> None:
    (target / "other").touch()
    replace(target)
    assert [path.relative_to(target.parent).as_posix() for path in target.parent.rglob("*")] == ["small", "small/file"]
    assert (target / "file").read_text() == "new"


def test_the_former_folder_comes_back_after_a_kill_between_the_two_renames(target: Path, killed: Path) -> None:
    assert finish_folder(killed) == target
    assert (target / "file").read_text() == "former"
    assert [path.name for path in target.parent.iterdir()] == ["small"]


def fail_to_replace(target: Path) -> None:
    with new_folder(target):
        raise ZeroDivisionError


def test_whoever_replaces_it_next_puts_it_back_first(target: Path, killed: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail_to_replace(target)
    assert (target / "file").read_text() == "former"
    replace(target)
    assert (target / "file").read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["small"]


def test_a_folder_that_is_there_is_not_overwritten_by_the_former_one(target: Path, killed: Path) -> None:
    target.mkdir()
    (target / "file").write_text("newer")
    assert finish_folder(killed) is None
    assert (target / "file").read_text() == "newer"
    assert [path.name for path in target.parent.iterdir()] == ["small"]


def test_a_signal_between_the_two_renames_leaves_the_former_folder(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        raise Stopped(signal.SIGINT)

    end_between_the_renames(monkeypatch, stop)
    with pytest.raises(Stopped):
        replace(target)
    assert (target / "file").read_text() == "former"
    assert [path.name for path in target.parent.iterdir()] == ["small"]


def test_whenever_it_is_killed_all_that_is_left_can_be_told_and_put_away(target: Path) -> None:
    events = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")
    number, status = 0, 1
    while status:
        number += 1
        if os.fork() == 0:
            seen = 0

            def kill(event: str, arguments: tuple[object, ...], number: int = number) -> None:
                nonlocal seen
                if event in events:
                    seen += 1
                    if seen == number:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(kill)
            replace(target)
            os._exit(0)
        _, status = os.wait()
        for scratch in unfinished_folders(target.parent):
            finish_folder(scratch)
        assert [path.name for path in target.parent.iterdir()] == ["small"], number
        assert (target / "file").read_text() in ("former", "new")
    assert number > 10
