"""What `compare` reads of a run besides its metrics: all of it may be deleted or damaged, and the rest is shown."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import torch

from pipeline.errors import PipelineError
from pipeline.stages import inputs
from pipeline.text import say
from pipeline.tracking import names, store

if TYPE_CHECKING:
    from pipeline.scoring.evaluation import Sample


def read_samples(run_id: str) -> Sample | None:
    """The test images that `evaluate` has shown: clean, noisy and denoised; None, after a line that says why not."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with np.load(store.download(run_id, names.SAMPLES, folder), allow_pickle=False) as arrays:
                clean = torch.from_numpy(arrays["clean"]) if "clean" in arrays else None
                noisy, denoised = torch.from_numpy(arrays["noisy"]), torch.from_numpy(arrays["denoised"])
            if noisy.ndim != 4 or any(part.shape != noisy.shape for part in (denoised, clean) if part is not None):
                raise ValueError("no images")
        except PipelineError as error:
            say(f"compare: no pictures: {error}", err=True)
            return None
        except (OSError, ValueError, KeyError, BadZipFile):
            say(f"compare: no pictures: {names.SAMPLES} of run {run_id} is damaged", err=True)
            return None
    return clean, noisy, denoised


def read_evaluation(run_id: str) -> dict[str, Any] | None:
    """What `evaluate` found; None, after a line that says why not."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return inputs.read_evaluation(store.download(run_id, names.EVALUATION, folder), run_id)
        except PipelineError as error:
            say(f"compare: no curve: {error}", err=True)
            return None
