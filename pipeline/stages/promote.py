"""Make a registered version the champion if it beats the present champion on the same test images."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import torch

from pipeline.data.prepared import PreparedData, load_prepared
from pipeline.errors import PipelineError
from pipeline.handoff.verify import open_onnxruntime
from pipeline.noise import Noise
from pipeline.scoring.metrics import METRICS
from pipeline.scoring.score import Denoiser, score
from pipeline.tracking import names, registry
from pipeline.tracking.store import read_config

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_BENCHMARK = (names.DATASET, names.DATASET_SHA256, names.NOISE)  # tags in which two versions must agree to be compared


@dataclass(frozen=True)
class Comparison:
    """PSNR of two models on the same noisy test images."""

    challenger: float  # mean over the images, in dB
    champion: float
    error: float  # standard error of the difference of the two means, in dB; NaN for a single image

    @classmethod
    def of(cls, challenger: np.ndarray, champion: np.ndarray) -> Comparison:
        """From the PSNR of every image, float64 [N] each, in the same order."""
        differences = challenger - champion
        error = float(differences.std(ddof=1) / math.sqrt(len(differences))) if len(differences) > 1 else math.nan
        return cls(float(challenger.mean()), float(champion.mean()), error)

    @property
    def difference(self) -> float:
        """By how much the challenger is better, in dB."""
        return self.challenger - self.champion


@dataclass(frozen=True)
class Decision:
    """Whether a version becomes the champion, and why."""

    tags: dict[str, str]  # for the version that becomes the champion; empty: it does not
    message: str


def promote(name: str, number: int, margin: float, force: bool, data_dir: str) -> None:
    """Move the alias `champion` to a version if it beats the champion by more than `margin`; print the reason.

    Args:
        name: of the registered model.
        number: of the challenger; 0 for the newest version.
        margin: in dB of mean test PSNR.
        force: move the alias whatever the comparison says; the version records that it was forced.
        data_dir: the folder that holds the prepared data.

    Raises:
        PipelineError: there is no such version, or the two cannot be compared. No alias has moved.
        ParityError: a file is not the one that passed the gates. No alias has moved.
    """
    challenger = registry.find_version(name, number)
    champion = registry.find_champion(name)
    decision = _decide(challenger, champion, margin, force, data_dir)
    if decision.tags:
        registry.make_champion(challenger, champion, decision.tags)
    click.echo(f"promote: {decision.message}")


def _decide(
    challenger: ModelVersion, champion: ModelVersion | None, margin: float, force: bool, data_dir: str
) -> Decision:
    title = _title(challenger)
    for version in filter(None, (challenger, champion)):
        if missing := [key for key in _BENCHMARK if key not in version.tags]:
            raise PipelineError(
                f"{_title(version)} has no tag {missing[0]}: only versions made by `export --register` can be compared"
            )
    if champion is None:
        with registry.model_file(_uri(challenger)):  # raises if the file is damaged
            return Decision({names.PROMOTED: "first champion"}, f"{title} is the first champion")
    if champion.version == challenger.version:
        return Decision({}, f"{title} is the champion already")

    reason, text = "forced", "not compared"
    if not force or all(challenger.tags[key] == champion.tags[key] for key in _BENCHMARK):
        compared = _compare(challenger, champion, data_dir)
        text = (
            f"{compared.challenger:.3f} dB against {compared.champion:.3f} dB of version {champion.version}, "
            f"{compared.difference:+.3f} dB (standard error {compared.error:.3f}), margin {margin:g} dB, "
            f"{challenger.tags[names.DATASET]} with {challenger.tags[names.NOISE]}"
        )
        if compared.difference > margin:
            reason = "better"
        elif not force:
            return Decision(
                {},
                f"{title} stays a challenger, {margin - compared.difference:.3f} dB short: {text}; "
                f"version {champion.version} stays the champion",
            )
    why = f"{reason}: {text}"
    return Decision(
        {names.PROMOTED: why, names.FORCED: str(reason == "forced").lower()},
        f"{title} is the champion ({why}); the previous one was version {champion.version}",
    )


def _compare(challenger: ModelVersion, champion: ModelVersion, data_dir: str) -> Comparison:
    for key in _BENCHMARK:
        if challenger.tags[key] != champion.tags[key]:
            raise PipelineError(
                f"{_title(challenger)} and the champion, version {champion.version}, cannot be compared: "
                f"{key} is {challenger.tags[key]} and {champion.tags[key]}; --force promotes it anyway"
            )
    config = replace(read_config(challenger.run_id), data_dir=data_dir)
    data = load_prepared(config)
    if data.digest != challenger.tags[names.DATASET_SHA256]:
        raise PipelineError(
            f"{_title(challenger)} was scored on other data: its dataset digest is "
            f"{challenger.tags[names.DATASET_SHA256]}, but {config.dataset} in {data_dir} has {data.digest}"
        )
    return Comparison.of(*_score([challenger, champion], data, config.training_noise))


def _score(versions: list[ModelVersion], data: PreparedData, noise: Noise) -> list[np.ndarray]:
    """The PSNR in dB of every test image, float64 [N], with the file of each version."""
    denoisers: dict[str, Denoiser] = {}
    with ExitStack() as stack:
        for version in versions:
            denoisers[version.version] = _denoiser(stack.enter_context(registry.model_file(_uri(version))))
        scores = score(data.test, noise, denoisers, {"psnr": METRICS["psnr"]})
    return [scores[version.version]["psnr"] for version in versions]


def _denoiser(path: Path) -> Denoiser:
    session = open_onnxruntime(path)
    return lambda noisy: torch.from_numpy(session(noisy.numpy())).clamp(0, 1)


def _uri(version: ModelVersion) -> str:
    return f"models:/{version.name}/{version.version}"


def _title(version: ModelVersion) -> str:
    return f"{version.name} version {version.version}"
