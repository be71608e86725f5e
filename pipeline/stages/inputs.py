"""The inputs of a stage that continues a run: its data and its checkpoint."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Config
from pipeline.data.prepared import PreparedData, load_prepared
from pipeline.errors import PipelineError
from pipeline.tracking import names
from pipeline.tracking.run import OpenRun
from pipeline.training.checkpoint import Checkpoint


def load_training_data(config: Config, run: OpenRun) -> PreparedData:
    """The prepared data, checked to be what `run` was trained on.

    Raises:
        PipelineError: it is other data.
    """
    data = load_prepared(config)
    expected = run.tag(names.DATASET_SHA256)
    if data.digest != expected:
        raise PipelineError(
            f"run {run.id} was trained on other data: its dataset digest is {expected}, but {config.dataset} in "
            f"{config.data_dir} has {data.digest}"
        )
    return data


def load_checkpoint(run: OpenRun) -> Checkpoint:
    """The best epoch of `run`, checked to be the one that it recorded."""
    with run.artifact(names.CHECKPOINT) as path:
        return read_checkpoint(path, run.id, run.tag(names.WEIGHTS))


def read_checkpoint(path: Path, run_id: str, expected: str | None) -> Checkpoint:
    """The checkpoint at `path`.

    Raises:
        PipelineError: it is unreadable, or the digest of its weights is not `expected`.
    """
    checkpoint = Checkpoint.load(path)
    if checkpoint.digest != expected:
        raise PipelineError(
            f"{names.CHECKPOINT} of run {run_id} is not what the run recorded: the SHA-256 of its weights is "
            f"{checkpoint.digest}, but it must be {expected}"
        )
    return checkpoint
