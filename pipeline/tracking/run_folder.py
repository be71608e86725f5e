"""The folder of a run on this machine: who works on the run holds its lock."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import PipelineError
from pipeline.files import is_held


def run_folder(data_dir: str, run_id: str) -> Path:
    """Where this machine keeps what it needs until a run is over: states of the training, records on their way."""
    return Path(data_dir) / "runs" / run_id


@contextmanager
def lock_run(data_dir: str, run_id: str = "") -> Iterator[Path]:
    """Lock the folder of a run, and yield it; it is removed afterwards if it is empty.

    Args:
        data_dir: where the folders of runs are.
        run_id: of the run; "" for one that the store has not made yet: it is to know a folder whose lock is held.

    Raises:
        PipelineError: another process has locked it, or it cannot be made.
    """
    folder = run_folder(data_dir, run_id or f"new-{uuid.uuid4().hex}")
    for left in folder.parent.glob("new-*/"):  # by a process that was killed
        if is_empty(left):
            remove_empty(left)
    lock = _lock_of(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise PipelineError(f"run {run_id} is in use by another process") from None
    except OSError as error:
        raise PipelineError(f"cannot write {folder}: {error.strerror or error}") from error
    try:
        yield folder
    finally:
        _remove_empty(folder)
        lock.release()


def in_use(folder: Path) -> bool:
    """Whether a process on this machine works on the run with this folder."""
    return is_held(Path(_lock_of(folder).lock_file))


def is_empty(folder: Path) -> bool:
    """Whether the folder of a run holds no file: a process that was killed has left it."""
    return not in_use(folder) and not any(path.is_file() for path in folder.rglob("*"))


def remove_empty(folder: Path) -> None:
    """Remove the folder of a run, if it is empty and nobody works on the run."""
    with suppress(Timeout), _lock_of(folder).acquire(timeout=0):
        for inner in sorted(folder.rglob("*/"), reverse=True):
            inner.rmdir()
        _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # something is in it
        folder.rmdir()
        Path(_lock_of(folder).lock_file).unlink(missing_ok=True)


def _lock_of(folder: Path) -> FileLock:
    return FileLock(f"{folder}.lock")
