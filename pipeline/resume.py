"""The state of a training, kept on disk while it runs, so that an interruption costs nothing."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import torch
from filelock import FileLock, Timeout

from pipeline.errors import PipelineError

_KEPT = 2  # the newest, and the one before it, should the newest be damaged


class States:
    """The states of one training, in a folder of its own. Made by `open_states`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, state: dict[str, Any]) -> None:
        """Write `state`, whole or not at all, and remove the oldest.

        Args:
            state: tensors, numbers, texts, and lists and dicts of them; with `epoch` and `seen`, which order the files.
        """
        content = io.BytesIO()
        torch.save(state, content)
        data = content.getvalue()
        # The checksum is in the name, so that it cannot be separated from what it is of.
        name = f"{state['epoch']:06}-{state['seen']:012}-{hashlib.sha256(data).hexdigest()[:32]}.pt"
        scratch = self.folder / ".new"
        try:
            with scratch.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self.folder / name)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise PipelineError(f"cannot write {self.folder / name}: {error.strerror or error}") from error
        for old in self._files()[_KEPT:]:
            old.unlink()

    def load(self) -> dict[str, Any] | None:
        """The newest state that is whole, or None."""
        for path in self._files():
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest()[:32] == path.stem.split("-")[2]:
                return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            click.echo(f"train: {path} is damaged; the one before it is used", err=True)
        return None

    def remove(self) -> None:
        """Remove the folder: the training has ended, or starts again."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*-*-*.pt"), reverse=True)


@contextmanager
def open_states(data_dir: str, run_id: str) -> Iterator[States]:
    """The states of the training of a run; nobody else may train it meanwhile.

    Raises:
        PipelineError: another process is training it.
    """
    folder = Path(data_dir) / "checkpoints" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise PipelineError(f"run {run_id} is being trained by another process") from None
    try:
        yield States(folder)
    finally:
        lock.release()
        if not folder.is_dir():  # the training has ended
            Path(lock.lock_file).unlink(missing_ok=True)
