"""Make a registered version the champion, if it is better than the champion on the same images in this moment."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
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

_BENCHMARK = (names.DATASET, names.DATASET_SHA256, names.NOISE)  # the tags that two versions must share to be compared


def promote(name: str, number: int, margin: float, force: bool, data_dir: str) -> None:
    """Move the alias `champion` to a version if it beats the champion by more than `margin`, and say so or why not.

    Args:
        name: of the registered model.
        number: of the challenger; 0 for the newest version.
        margin: in dB of mean test PSNR.
        force: move it whatever the result; that is recorded with the version.
        data_dir: where the prepared data are.

    Raises:
        PipelineError: there is no such version, or the two cannot be compared. No alias has moved.
        ParityError: a file is not the one that passed the gates. No alias has moved.
    """
    challenger = registry.find_version(name, number)
    champion = registry.find_champion(name)
    for version in filter(None, (challenger, champion)):
        if missing := [key for key in _BENCHMARK if key not in version.tags]:
            raise PipelineError(
                f"{_title(version)} has no tag {missing[0]}: only what `export --register` made can be compared"
            )
    if champion is not None and champion.version == challenger.version:
        click.echo(f"promote: {_title(challenger)} is the champion already")
        return
    if champion is None:
        with registry.model_file(_uri(challenger)):  # it must be whole
            registry.make_champion(challenger, None, {names.PROMOTED: "first champion"})
        click.echo(f"promote: {_title(challenger)} is the first champion")
        return

    reason = "forced"
    if force and any(challenger.tags[key] != champion.tags[key] for key in _BENCHMARK):
        comparison = "not compared"
    else:
        difference, error, psnrs = _compare(challenger, champion, data_dir)
        comparison = (
            f"{psnrs[0]:.3f} dB against {psnrs[1]:.3f} dB of version {champion.version}, {difference:+.3f} dB "
            f"(standard error {error:.3f}), margin {margin:g} dB, {challenger.tags[names.DATASET]} with "
            f"{challenger.tags[names.NOISE]}"
        )
        if difference > margin:
            reason = "better"
        elif not force:
            click.echo(
                f"promote: {_title(challenger)} stays a challenger, {margin - difference:.3f} dB short: {comparison}; "
                f"version {champion.version} stays the champion"
            )
            return
    tags = {names.PROMOTED: f"{reason}: {comparison}", names.FORCED: str(reason == "forced").lower()}
    registry.make_champion(challenger, champion, tags)
    click.echo(
        f"promote: {_title(challenger)} is the champion ({tags[names.PROMOTED]}); version {champion.version} is the "
        "previous one"
    )


def _compare(
    challenger: ModelVersion, champion: ModelVersion, data_dir: str
) -> tuple[float, float, tuple[float, float]]:
    """Mean difference of the test PSNR in dB, its standard error over the images, and both PSNRs."""
    for key in _BENCHMARK:
        if challenger.tags[key] != champion.tags[key]:
            raise PipelineError(
                f"{_title(challenger)} and the champion, version {champion.version}, cannot be compared: "
                f"{key} is {challenger.tags[key]} and {champion.tags[key]}; --force promotes it all the same"
            )
    config = replace(read_config(challenger.run_id), data_dir=data_dir)
    data = load_prepared(config)
    if data.digest != challenger.tags[names.DATASET_SHA256]:
        raise PipelineError(
            f"{_title(challenger)} was scored on other data: their digest is {challenger.tags[names.DATASET_SHA256]}, "
            f"that of {config.dataset} in {data_dir} is {data.digest}"
        )
    psnrs = _score([challenger, champion], data, config.training_noise)
    differences = psnrs[0] - psnrs[1]
    error = float(differences.std(ddof=1) / math.sqrt(len(differences))) if len(differences) > 1 else math.nan
    return float(differences.mean()), error, (float(psnrs[0].mean()), float(psnrs[1].mean()))


def _score(versions: list[ModelVersion], data: PreparedData, noise: Noise) -> list[np.ndarray]:
    """The PSNR of every test image, of the file of every version."""
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
