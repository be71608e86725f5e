"""The state of a training, kept on disk while it runs, so that an interruption costs nothing."""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path
from typing import Any

import click
import torch

from pipeline.errors import PipelineError
from pipeline.files import write_file

_KEPT = 2  # the newest, and the one before it, should the newest be damaged


class States:
    """The states of one training, in a folder of its own, which nobody else may use meanwhile."""

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
        try:
            self.folder.mkdir(exist_ok=True)
            write_file(self.folder / name, data, sync=True)
        except OSError as error:
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
