"""The weights that a training starts from, where these are another model's: of a run, or of a file handed off."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config
from pipeline.denoising.model import located_model
from pipeline.errors import ArgumentError, PipelineError, counted
from pipeline.handoff.onnx_weights import read_onnx
from pipeline.models import parse_model
from pipeline.stages.inputs import read_checkpoint
from pipeline.tracking import names, store
from pipeline.tracking.run import OpenRun
from pipeline.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Start:
    """Where a training starts."""

    checkpoint: Checkpoint
    run_id: str  # of the run that trained it


def read_start(config: Config) -> Start | None:
    """The weights that `config.start` names; None if it names none.

    Raises:
        PipelineError: there is no such model, it cannot be restored, or is of another architecture.
    """
    if not config.start:
        return None
    if re.fullmatch("[0-9a-f]{32}", config.start):
        return _of_run(config)
    try:
        with located_model(config.start) as path:
            return Start(*read_onnx(path, config.model, config.size))
    except PipelineError as error:
        # Whoever found it wrong names it in other ways, with an option of another command.
        reason = str(error).removeprefix("--model ").removeprefix("--model: ").removeprefix(f"{config.start}: ")
        raise type(error)(f"--from {config.start}: {reason}") from error


def check_start(config: Config, channels: int) -> None:
    """Make sure that the training can start from `config.start`, if that is given.

    Raises:
        PipelineError: as `read_start`, or its images have another number of channels.
    """
    start = read_start(config)
    if start and start.checkpoint.channels != channels:
        raise ArgumentError(
            f"--from {config.start}: it is a model of images with {counted(start.checkpoint.channels, 'channel')}, but "
            f"{config.dataset} has {channels}; give --channels {start.checkpoint.channels}"
        )


def start_of(config: Config, run: OpenRun) -> Start | None:
    """As `read_start`; kept in `run`, so that it can be resumed when the other model is no longer there."""
    if not config.start:
        return None
    if source := run.tag(names.START):
        with run.artifact(names.START_CHECKPOINT) as path:
            return Start(read_checkpoint(path, run.id, run.tag(names.START_WEIGHTS)), source)
    start = read_start(config)
    assert start
    with tempfile.TemporaryDirectory() as folder, run.together():
        path = Path(folder) / Path(names.START_CHECKPOINT).name
        start.checkpoint.save(path)
        run.log_file(path, str(Path(names.START_CHECKPOINT).parent))
        run.log_tags({names.START: start.run_id, names.START_WEIGHTS: start.checkpoint.digest})
    return start


def _of_run(config: Config) -> Start:
    run_id = config.start
    client = store.connect()
    tags = store.ask(f"--from {run_id}", lambda: client.get_run(run_id)).data.tags
    if names.WEIGHTS not in tags:
        raise ArgumentError(f"--from {run_id}: that run has not trained a model")
    with tempfile.TemporaryDirectory() as folder:
        path = store.download(run_id, names.CHECKPOINT, folder)
        checkpoint = read_checkpoint(path, run_id, tags[names.WEIGHTS])
    if parse_model(checkpoint.model, checkpoint.size) != parse_model(config.model, config.size):
        size = f" --size {checkpoint.size}" if checkpoint.size else ""
        raise ArgumentError(
            f"--from {run_id}: that run has trained another architecture; give --model {checkpoint.model}{size}"
        )
    return Start(checkpoint, run_id)
