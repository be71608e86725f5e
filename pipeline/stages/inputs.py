"""The inputs of a stage that continues a run: its data, its checkpoint, and how good it was found to be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.data.prepared import PreparedData, load_prepared
from pipeline.errors import PipelineError
from pipeline.files import read_json
from pipeline.scoring.quality import Quality
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


def read_evaluation(path: Path, run_id: str, own: str = "") -> dict[str, Any]:
    """What `evaluate` found, from the artifact at `path`, which whoever can write to the store can change.

    Args:
        path: of the copy of `names.EVALUATION`.
        run_id: of the run that it belongs to.
        own: the label of a noise whose results must be there.

    Raises:
        PipelineError: it is not what `evaluate` writes.
    """
    report = read_json(path)
    try:
        for summary in (report["results"][own] if own else {}, *report["results"].values()):
            for values in summary.values():
                all(math.isfinite(value) for value in values.values())  # a TypeError, if one is no number
        for summary in report["results"].values():
            Quality.of(summary)
        report.setdefault("other_data", {}).items()
        if "curve" in report:
            curve = report["curve"]
            (curve["images"], curve["variances"], curve["psnr"]["denoised"], curve["psnr"]["clipped"])
    except (AttributeError, KeyError, TypeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise PipelineError(
            f"{names.EVALUATION} of run {run_id} is not what evaluate writes: {reason}; make it again with: "
            f"python -m pipeline evaluate --run-id {run_id} --force"
        ) from error
    return report
