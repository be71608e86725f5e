"""The state of a training, saved on disk while it runs, so that an interruption loses nothing."""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path
from typing import Any

import torch

from pipeline import launcher
from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.files import write_file
from pipeline.text import say

_KEPT = 2  # the newest state, and the one before it in case the newest is damaged


class States:
    """The saved states of one training, in a folder of its own, which only one process may use at a time."""

    def __init__(self, folder: Path, config: Config) -> None:
        """Args:
        config: of the training; a state of a training with another config is refused.
        """
        self.folder = folder
        self._config = config

    def save(self, state: dict[str, Any]) -> None:
        """Write a state, complete or not at all, and remove the oldest one.

        Args:
            state: as `Trainer.state_dict` returns it.

        Raises:
            PipelineError: it cannot be written.
        """
        content = io.BytesIO()
        torch.save({**state, "config": self._config.to_json(), **_machine()}, content)
        data = content.getvalue()
        # The files sort by progress, and the checksum cannot get separated from the file that it belongs to.
        path = self.folder / f"{state['epoch']:06}-{state['seen']:012}-{_checksum(data)}.pt"
        try:
            self.folder.mkdir(exist_ok=True)
            write_file(path, data, sync=True)
        except OSError as error:
            raise PipelineError(f"cannot write {path}: {error.strerror or error}") from error
        for old in self._files()[_KEPT:]:
            old.unlink()

    def load(self) -> dict[str, Any] | None:
        """The newest undamaged state, or None. Warns of damaged ones, and of what makes rounding differ.

        Raises:
            PipelineError: the state is of a training with another config.
        """
        for path in self._files():
            data = path.read_bytes()
            state = _parsed(data) if _checksum(data) == path.stem.split("-")[2] else None
            if state is None:
                say(f"train: {path} is damaged; using the state before it", err=True)
                continue
            self._check(state, path)
            return state
        return None

    def remove(self) -> None:
        """Remove the folder: the training has ended, or starts again."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        """Newest first."""
        return sorted((path for path in self.folder.glob("*-*-*.pt") if path.is_file()), reverse=True)

    def _check(self, state: dict[str, Any], path: Path) -> None:
        if Config.from_json(state["config"]) != self._config:
            raise PipelineError(f"{path} belongs to a training with another config: {state['config']}")
        for key, value in _machine().items():
            if state[key] != value:
                say(
                    f"train: was interrupted with {key} {state[key]} and resumes with {value}: the last bits may "
                    "differ from those of an uninterrupted training",
                    err=True,
                )


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _parsed(data: bytes) -> dict[str, Any] | None:
    """The state in a file, or None if it holds something else."""
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        Config.from_json(state["config"])
        return state if {"epoch", "seen", *_machine()} <= state.keys() else None
    except Exception:  # of many kinds
        return None


def _machine() -> dict[str, Any]:
    """What decides the last bits of a sum, besides the config."""
    return {"torch": str(torch.__version__), "threads": torch.get_num_threads(), "processes": launcher.count()}
