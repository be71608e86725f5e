"""Images that a model has nothing to do with: reading them, scoring a model on them, and printing the scores."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.config import AUTO, Config
from pipeline.data.images import Part
from pipeline.data.sources import DATASETS, Source
from pipeline.errors import PipelineError
from pipeline.noise import Noise
from pipeline.scoring.evaluation import Summary, score_noise
from pipeline.scoring.published import describe_known
from pipeline.scoring.quality import Quality
from pipeline.scoring.score import Denoiser, clipped, identity
from pipeline.stages.evaluate import describe_scores
from pipeline.text import say


@contextmanager
def images_of(source: Source, other: Config, channels: int) -> Iterator[Part]:
    """The test images of a dataset, or else all, for a model of images with so many channels.

    For a model of gray images, those in colour become gray. Gray images stay what they are, even if the model is one of
    images in colour.

    Raises:
        PipelineError: the images cannot be read, or have another number of channels.
    """
    data_dir = Path(other.data_dir)
    with tempfile.TemporaryDirectory(dir=data_dir if data_dir.is_dir() else None) as scratch:
        converts = channels == 1 or (channels == 3 and other.dataset in DATASETS)
        division = source.divide(channels if converts else AUTO, Path(scratch))
        for line in division.lines:
            say(f"evaluate: {other.dataset}: {line}")
        if division.fault:
            raise PipelineError(f"{other.dataset}: {division.fault}")
        part = division.train if division.test is None else division.test
        found = part.images[0].shape[0]
        if found not in (1, channels):
            raise PipelineError(
                f"--dataset {other.dataset}: the images have {found} channels, and the model takes {channels}"
            )
        if found != channels:
            say(
                f"evaluate: {other.dataset}: the images are gray; the model takes {channels} channels, so it is shown "
                "each image in all of them, and the mean of its output is scored"
            )
        yield part


def score_images(part: Part, denoise: Denoiser, noises: Mapping[str, Noise]) -> dict[str, Summary]:
    """The scores of a denoiser, and of doing nothing, by label of the noise."""
    denoisers = {"noisy": identity, "clipped": clipped, "denoised": denoise}
    return {label: score_noise(part, noise, denoisers).summary for label, noise in noises.items()}


def print_scores(name: str, results: Mapping[str, Summary], labels: Sequence[str], digest: str) -> None:
    """Say the scores at the noises with these labels, and what others report on the set of that digest."""
    for label in labels:
        say(f"evaluate: {name}: {label}: {describe_scores(results[label])}")
        if verdict := Quality.of(results[label]).verdict:
            say(f"evaluate: {name}: {label}: {verdict}")
    ours = {label: results[label]["denoised"]["psnr"] for label in labels if "psnr" in results[label]["denoised"]}
    for line in describe_known(digest, ours):
        say(f"evaluate: {name}: {line}")
