"""The folder of a run on this machine: who works on the run holds its lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import PipelineError


def run_folder(data_dir: str, run_id: str) -> Path:
    """Where this machine keeps what it needs until a run is over: states of the training, records on their way."""
    return Path(data_dir) / "runs" / run_id


@contextmanager
def lock_run(data_dir: str, run_id: str) -> Iterator[Path]:
    """Lock the folder of a run, and yield it; it is removed afterwards if it is empty.

    Raises:
        PipelineError: another process has locked it, or it cannot be made.
    """
    folder = run_folder(data_dir, run_id)
    lock = FileLock(f"{folder}.lock")
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
        try:
            folder.rmdir()
            Path(lock.lock_file).unlink(missing_ok=True)
        except OSError:  # something is in it
            pass
        lock.release()


def in_use(folder: Path) -> bool:
    """Whether a process on this machine works on the run with this folder."""
    lock = FileLock(f"{folder}.lock")
    if not Path(lock.lock_file).exists():
        return False
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
