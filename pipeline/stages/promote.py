"""Make a registered version the champion if it beats the present champion on the same test images."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from pipeline.data.images import psnr_of_error
from pipeline.data.prepared import PreparedData, load_prepared
from pipeline.denoising.trial import check_model
from pipeline.errors import PipelineError, QualityError
from pipeline.noise import Noise, without_level
from pipeline.scoring.evaluation import Scored, score_noise
from pipeline.scoring.metrics import METRICS
from pipeline.scoring.quality import LEVEL, Quality
from pipeline.scoring.score import Denoiser, clipped, identity
from pipeline.scoring.without_clean import errors_of_scenes
from pipeline.text import say
from pipeline.tracking import names, queries, registry
from pipeline.tracking.store import read_config
from pipeline.verification.runtimes import open_onnxruntime

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

BASELINE_MARGIN = 0.5  # dB by which a classical denoiser may be better than a champion on the same test images
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
        return cls(float(challenger.mean()), float(champion.mean()), _standard_error(challenger - champion))

    @classmethod
    def of_errors(cls, challenger: np.ndarray, champion: np.ndarray) -> Comparison:
        """From the mean squared error of every scene as it was estimated, float64 [N] each, in the same order.

        Raises:
            PipelineError: an error is too small to be estimated.
        """
        means = float(challenger.mean()), float(champion.mean())
        if min(means) <= 0:
            raise PipelineError(
                "the errors are too small to be estimated on these test images: which is better is not known"
            )
        relative = champion / means[1] - challenger / means[0]
        ours, theirs = (float(psnr_of_error(mean)) for mean in means)
        return cls(ours, theirs, 10 / math.log(10) * _standard_error(relative))

    @property
    def difference(self) -> float:
        """By how much the challenger is better, in dB."""
        return self.challenger - self.champion


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


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
        QualityError: the version is worse than its clipped input, or by more than `BASELINE_MARGIN` worse than a
            classical denoiser that was scored on the same test images. No alias has moved.
        ParityError: a file is not the one that passed the gates. No alias has moved.
    """
    challenger = registry.find_version(name, number)
    champion = registry.find_champion(name)
    decision = _decide(challenger, champion, margin, force, data_dir)
    if decision.tags:
        registry.make_champion(challenger, champion, decision.tags)
    say(f"promote: {decision.message}")


def _decide(
    challenger: ModelVersion, champion: ModelVersion | None, margin: float, force: bool, data_dir: str
) -> Decision:
    title = _title(challenger)
    for version in filter(None, (challenger, champion)):
        if missing := [key for key in _BENCHMARK if key not in version.tags]:
            raise PipelineError(
                f"{_title(version)} has no tag {missing[0]}: only versions made by `export --register` can be compared"
            )
    if champion is not None and champion.version == challenger.version:
        return Decision({}, f"{title} is the champion already")
    alike = champion is not None and _benchmark(challenger) == _benchmark(champion)
    trial = None if force and not alike else _Trial.of(challenger, data_dir)
    if trial and not force and (why_not := trial.why_not()):
        raise QualityError(f"{title} does not become the champion: {why_not}; --force promotes it anyway")
    if champion is None:
        with registry.model_file(_uri(challenger)):  # raises if the file is damaged
            return Decision({names.PROMOTED: "first champion"}, f"{title} is the first champion")

    reason, text = "forced", "not compared"
    if trial and (not force or trial.is_ranked):
        compared = trial.against(champion)
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


@dataclass(frozen=True)
class _Trial:
    """A challenger, scored on its test images."""

    version: ModelVersion
    noise: Noise
    data: PreparedData
    scored: Scored

    @classmethod
    def of(cls, version: ModelVersion, data_dir: str) -> _Trial:
        config = replace(read_config(version.run_id), data_dir=data_dir)
        data = load_prepared(config)
        if data.digest != version.tags[names.DATASET_SHA256]:
            raise PipelineError(
                f"{_title(version)} was scored on other data: its dataset digest is "
                f"{version.tags[names.DATASET_SHA256]}, but {config.dataset} in {data_dir} has {data.digest}"
            )
        return cls(version, config.training_noise, data, _score(version, data, config.training_noise))

    @property
    def is_ranked(self) -> bool:
        """Whether there is a PSNR to compare."""
        return Quality.of(self.scored.summary).metric != LEVEL

    def why_not(self) -> str:
        """Why it cannot be a champion, whatever others there are: doing nothing is better, or a classical denoiser."""
        quality = Quality.of(self.scored.summary)
        if quality.fault or self.scored.psnr is None:
            return quality.verdict.rstrip(".")
        for name, of in queries.baselines(self.data.test_digest, ["psnr"]).items():
            psnr = of["psnr"].get(self.noise.label, -math.inf)
            # On the images that the classical denoiser was scored on, which are the first ones.
            count = int(re.findall(r"\d+", name)[-1])
            own = float(self.scored.psnr[:count].mean())
            if psnr - own > BASELINE_MARGIN:
                return (
                    f"it has {own:.2f} dB, and the classical denoiser {name} {psnr:.2f} dB on the same images, more "
                    f"than {BASELINE_MARGIN:g} dB better"
                )
        return ""

    def against(self, champion: ModelVersion) -> Comparison:
        """Compared with the champion on the same images."""
        both = f"{_title(self.version)} and the champion, version {champion.version},"
        theirs = _benchmark(champion)
        for key, value in _benchmark(self.version).items():
            if value != theirs[key]:
                raise PipelineError(
                    f"{both} cannot be compared: {key} is {value} and {theirs[key]}; --force promotes it anyway"
                )
        if not self.is_ranked:
            raise PipelineError(
                f"{both} cannot be ranked, because no PSNR is known without clean images or second captures; --force "
                "promotes it anyway"
            )
        scored = _score(champion, self.data, self.noise)
        if self.scored.psnr is not None and scored.psnr is not None:
            return Comparison.of(self.scored.psnr, scored.psnr)
        assert self.data.test.scenes is not None
        return Comparison.of_errors(
            errors_of_scenes(self.scored.badness, self.data.test.scenes),
            errors_of_scenes(scored.badness, self.data.test.scenes),
        )


def _benchmark(version: ModelVersion) -> dict[str, str]:
    """What two versions must agree in to be compared."""
    return {key: without_level(version.tags[key]) for key in _BENCHMARK}


def _score(version: ModelVersion, data: PreparedData, noise: Noise) -> Scored:
    """The scores of the file of a version on the test images."""
    with registry.model_file(_uri(version)) as path:
        denoisers = {"noisy": identity, "clipped": clipped, "denoised": _denoiser(path)}
        return score_noise(data.test, noise, denoisers, {"psnr": METRICS["psnr"]})


def _denoiser(path: Path) -> Denoiser:
    check_model(path)
    session = open_onnxruntime(path)
    return lambda noisy: torch.from_numpy(session(noisy.numpy())).clamp(0, 1)


def _uri(version: ModelVersion) -> str:
    return f"models:/{version.name}/{version.version}"


def _title(version: ModelVersion) -> str:
    return f"{version.name} version {version.version}"
