"""How good a denoiser is on the test images: scores, a curve, and images to look at.

Everything here only computes: `pipeline.stages.evaluate` draws, logs and prints what comes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.config import CURVE_VARIANCES, REFERENCE_VARIANCES, Config
from pipeline.data.images import Part
from pipeline.data.prepared import PreparedData
from pipeline.data.sources import open_source
from pipeline.errors import PipelineError
from pipeline.noise import Noise, make_noise
from pipeline.scoring.digit_reader import load_classifier
from pipeline.scoring.metrics import METRICS, Metric
from pipeline.scoring.score import (
    PROTOCOL,
    Denoiser,
    Scores,
    clipped,
    identity,
    means,
    noisy_copy,
    score,
)
from pipeline.scoring.without_clean import estimated_errors, noise_levels, summarize_errors

_SHOWN_IMAGES = 8
_WORST_IMAGES = 10
_SHOWN_SIDE = 128  # pixels: the largest side of an image to look at
_CURVE_PIXELS = 784_000  # pixels to draw the curve from: 1,000 digits
_OTHER_DATA = "fashion-mnist"

Sample = tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]
"""Clean, noisy and denoised images, each float32 [N, C, H, W]; None for clean images that are not known."""

Summary = dict[str, dict[str, float]]
"""Mean of every metric over the images, by denoiser: `{denoiser: {metric: mean}}`."""


@dataclass(frozen=True)
class Evaluation:
    """What a denoiser (`denoised`) scores, beside the noisy image (`noisy`) and the clipped noisy image (`clipped`)."""

    results: dict[str, Summary]  # by label of the noise
    samples: dict[str, Sample]  # by label of the noise: the first test images
    worst: list[int]  # indices of the test images that are worst at the training noise, see `Scored`, worst first
    worst_sample: Sample
    curve: dict[str, Any] | None  # number of images, variances of Gaussian noise, PSNR by denoiser; None: not asked
    by_class: dict[str, dict[str, float]] | None  # mean PSNR in dB, by label of the noise and class; None: no classes
    other_data: dict[str, Summary]  # by dataset: images of another kind, at the training noise
    images: dict[str, np.ndarray]  # as in `Scored`, at the training noise

    def report(self) -> dict[str, Any]:
        """Everything but the images, for JSON."""
        return {
            "protocol": PROTOCOL,
            "results": self.results,
            "worst": self.worst,
            **({} if self.curve is None else {"curve": self.curve}),
            **({} if self.by_class is None else {"by_class": self.by_class}),
            "other_data": self.other_data,
        }


@dataclass(frozen=True)
class Scored:
    """The scores of the images of a part, at one noise."""

    summary: Summary
    badness: np.ndarray  # of `denoised`, float64 [N]: minus the PSNR; or the estimated error; or what was removed
    psnr: np.ndarray | None  # in dB, of `denoised`, float64 [N]; None without clean images
    images: dict[str, np.ndarray]  # what is known of the output for each image: float64 [N] by the name of the metric


def reference_noises(config: Config) -> list[Noise]:
    """Gaussian noise at the levels that all runs with simulated noise are scored at."""
    if config.training_noise.is_recorded:
        return []
    return [make_noise("gaussian", f"{variance:g}", config.clip_input) for variance in REFERENCE_VARIANCES]


def evaluate_denoiser(denoise: Denoiser, config: Config, data: PreparedData, noises: Iterable[Noise]) -> Evaluation:
    """Score `denoise` on all test images.

    Args:
        denoise: the model.
        config: of the run that trained it.
        data: the data it was trained on.
        noises: to score at; the training noise must be among them.

    Raises:
        PipelineError: a noise is to be added to clean images, and there are none.
    """
    own, noises = config.training_noise, list(noises)
    denoisers = {"noisy": identity, "clipped": clipped, "denoised": denoise}
    metrics = _metrics(config, data)
    scores = {noise.label: score_noise(data.test, noise, denoisers, metrics, data.test_labels) for noise in noises}
    worst = np.argsort(-scores[own.label].badness)[:_WORST_IMAGES].tolist()
    return Evaluation(
        results={label: scored.summary for label, scored in scores.items()},
        samples={noise.label: sample(data.test, noise, denoise) for noise in noises},
        worst=worst,
        worst_sample=_sample(data.test, worst, own, denoise),
        curve=None if all(noise.is_recorded for noise in noises) else _curve(config, data.test, denoisers),
        by_class=None if data.test_labels is None else _by_class(scores, data.test_labels),
        other_data=score_other_data(config, denoisers, own),
        images=scores[own.label].images,
    )


def score_noise(
    part: Part,
    noise: Noise,
    denoisers: Mapping[str, Denoiser],
    metrics: Mapping[str, Metric] = METRICS,
    labels: np.ndarray | None = None,
) -> Scored:
    """Score denoisers, `denoised` among them, in the best way that the images allow.

    Against the clean images, where there are any; else against other captures of the same scenes; else by the noise
    that is left (then `noisy` and `clipped` must be among the denoisers).

    Raises:
        PipelineError: the part has not what the noise needs: clean images to add it to, or noisy images.
    """
    _check(part, noise)
    part = part.for_noise(noise.is_recorded)
    if part.noisy is None or part.clean is not None:
        scores = score(part, noise, denoisers, metrics)
        psnr = scores["denoised"]["psnr"]
        images: dict[str, np.ndarray] = {
            name: scores["denoised"][name] for name in ("psnr", "ssim") if name in scores["denoised"]
        }
        if "clipped" in scores:
            images["psnr_gain"] = psnr - scores["clipped"]["psnr"]
        return Scored(_summary(scores, labels), -psnr, psnr, images)
    if part.layout == "bursts":
        assert part.scenes is not None
        errors = estimated_errors(part, noise, denoisers)
        summary = {name: summarize_errors(of, part.scenes) for name, of in errors.items()}
        estimated = errors["denoised"]
        return Scored(summary, np.nan_to_num(estimated, nan=-np.inf), None, {"mse_estimated": estimated})
    summary, removed = noise_levels(part, noise, denoisers)
    return Scored(summary, removed, None, {"removed": removed})


def _check(part: Part, noise: Noise) -> None:
    if noise.is_recorded and part.noisy is None:
        raise PipelineError(f"--noise {noise.spec}: the data have no noisy images, only clean ones")
    if not noise.is_recorded and part.clean is None:
        raise PipelineError(f"--noise {noise.spec}: the data have no clean images to add noise to; use recorded")


def sample(part: Part, noise: Noise, denoise: Denoiser) -> Sample:
    """The first images to look at, of captures the first one of each scene."""
    part = part.for_noise(noise.is_recorded)
    numbers = np.arange(len(part)) if part.scenes is None else np.unique(part.scenes, return_index=True)[1]
    return _sample(part, numbers[:_SHOWN_IMAGES].tolist(), noise, denoise)


def _metrics(config: Config, data: PreparedData) -> dict[str, Metric]:
    """The metrics of every dataset; for MNIST also the digit that the classifier reads in every image."""
    if config.dataset != "mnist" or data.test_labels is None:
        return {**METRICS}
    classifier = load_classifier()
    return {**METRICS, "digit": lambda images, clean: classifier.read(images)}


def _summary(scores: Scores, labels: np.ndarray | None) -> Summary:
    summary = {}
    for name, values in scores.items():
        values = dict(values)
        if "digit" in values:
            values["accuracy"] = (values.pop("digit") == labels).astype(float)
        summary[name] = means(values)
    return summary


def _by_class(scores: Mapping[str, Scored], labels: np.ndarray) -> dict[str, dict[str, float]]:
    return {
        label: {str(of_class): float(scored.psnr[labels == of_class].mean()) for of_class in np.unique(labels).tolist()}
        for label, scored in scores.items()
        if scored.psnr is not None
    }


def _sample(part: Part, indices: Sequence[int], noise: Noise, denoise: Denoiser) -> Sample:
    """Clean, noisy and denoised images, cropped to one size around their centres."""
    part = part.for_noise(noise.is_recorded)
    side = min(_SHOWN_SIDE, *(min(part.images[index].shape[1:]) for index in indices))
    cleans, noisies, denoiseds = [], [], []
    for index in indices:
        clean, noisy = noisy_copy(part, index, noise)
        cleans.append(None if clean is None else _centre(clean, side))
        noisies.append(_centre(noisy, side))
        denoiseds.append(_centre(denoise(noisy), side))
    known = [clean for clean in cleans if clean is not None]
    return torch.cat(known) if known else None, torch.cat(noisies), torch.cat(denoiseds)


def _centre(images: torch.Tensor, side: int) -> torch.Tensor:
    top, left = ((length - side) // 2 for length in images.shape[-2:])
    return images[..., top : top + side, left : left + side]


def _curve(config: Config, part: Part, denoisers: Mapping[str, Denoiser]) -> dict[str, Any]:
    """Mean PSNR of the first test images over the levels of Gaussian noise."""
    part = part.for_noise(is_recorded=False)
    few = part[: max(1, _CURVE_PIXELS // part.images[0][0].size)]
    psnr: dict[str, list[float]] = {name: [] for name in denoisers}
    for variance in CURVE_VARIANCES:
        noise = make_noise("gaussian", f"{variance:g}", config.clip_input)
        for name, values in score(few, noise, denoisers, {"psnr": METRICS["psnr"]}).items():
            psnr[name].append(float(values["psnr"].mean()))
    return {"images": len(few), "variances": list(CURVE_VARIANCES), "psnr": psnr}


def has_other_data(config: Config) -> bool:
    """Whether the model is one of MNIST's digits and FashionMNIST is in the data folder."""
    return config.dataset == "mnist" and (Path(config.data_dir) / "FashionMNIST" / "raw").is_dir()


def score_other_data(config: Config, denoisers: Mapping[str, Denoiser], noise: Noise) -> dict[str, Summary]:
    """Scores on images of another kind, by dataset; empty unless `has_other_data`."""
    if not has_other_data(config):
        return {}
    other = open_source(replace(config, dataset=_OTHER_DATA)).divide(1, Path(config.data_dir)).test
    assert other is not None  # this dataset comes with test images
    scores = score(other, noise, denoisers, METRICS)
    return {_OTHER_DATA: {name: means(values) for name, values in scores.items()}}
