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

_SHOWN_IMAGES = 8
_WORST_IMAGES = 10
_SHOWN_SIDE = 128  # pixels: the largest side of an image to look at
_CURVE_PIXELS = 784_000  # pixels to draw the curve from: 1,000 digits
_OTHER_DATA = "fashion-mnist"

Sample = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Clean, noisy and denoised images, each float32 [N, C, H, W]."""

Summary = dict[str, dict[str, float]]
"""Mean of every metric over the images, by denoiser: `{denoiser: {metric: mean}}`."""


@dataclass(frozen=True)
class Evaluation:
    """What a denoiser (`denoised`) scores, beside the noisy image (`noisy`) and the clipped noisy image (`clipped`)."""

    results: dict[str, Summary]  # by label of the noise
    samples: dict[str, Sample]  # by label of the noise: the first test images
    worst: list[int]  # indices of the test images with the lowest PSNR at the training noise, lowest first
    worst_sample: Sample
    curve: dict[str, Any]  # number of images, variances of Gaussian noise, and mean PSNR by denoiser at each
    by_class: dict[str, dict[str, float]] | None  # mean PSNR in dB, by label of the noise and class; None: no classes
    other_data: dict[str, Summary]  # by dataset: images of another kind, at the training noise

    def report(self) -> dict[str, Any]:
        """Everything but the images, for JSON."""
        return {
            "protocol": PROTOCOL,
            "results": self.results,
            "worst": self.worst,
            "curve": self.curve,
            **({} if self.by_class is None else {"by_class": self.by_class}),
            "other_data": self.other_data,
        }


def reference_noises(config: Config) -> list[Noise]:
    """Gaussian noise at the levels that all runs are scored at."""
    return [make_noise("gaussian", f"{variance:g}", config.clip_input) for variance in REFERENCE_VARIANCES]


def evaluate_denoiser(denoise: Denoiser, config: Config, data: PreparedData, noises: Iterable[Noise]) -> Evaluation:
    """Score `denoise` on all test images.

    Args:
        denoise: the model.
        config: of the run that trained it.
        data: the data it was trained on.
        noises: to score at; the training noise must be among them.
    """
    own = config.training_noise
    denoisers = {"noisy": identity, "clipped": clipped, "denoised": denoise}
    metrics = _metrics(config, data)
    scores = {noise.label: score(data.test, noise, denoisers, metrics) for noise in noises}
    worst = np.argsort(scores[own.label]["denoised"]["psnr"])[:_WORST_IMAGES].tolist()
    first = range(min(_SHOWN_IMAGES, len(data.test)))
    return Evaluation(
        results={label: _summary(values, data.test_labels) for label, values in scores.items()},
        samples={noise.label: _sample(data.test, first, noise, denoise) for noise in noises},
        worst=worst,
        worst_sample=_sample(data.test, worst, own, denoise),
        curve=_curve(config, data.test, denoisers),
        by_class=None if data.test_labels is None else _by_class(scores, data.test_labels),
        other_data=score_other_data(config, denoisers, own),
    )


def _metrics(config: Config, data: PreparedData) -> dict[str, Metric]:
    """The metrics of every dataset; for MNIST also the digit that the classifier reads in every image."""
    if config.dataset != "mnist" or data.test_labels is None:
        return METRICS
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


def _by_class(scores: Mapping[str, Scores], labels: np.ndarray) -> dict[str, dict[str, float]]:
    return {
        label: {
            str(of_class): float(values["denoised"]["psnr"][labels == of_class].mean())
            for of_class in np.unique(labels).tolist()
        }
        for label, values in scores.items()
    }


def _sample(part: Part, indices: Sequence[int], noise: Noise, denoise: Denoiser) -> Sample:
    """Clean, noisy and denoised images, cropped to one size around their centres."""
    side = min(_SHOWN_SIDE, *(min(part.images[index].shape[1:]) for index in indices))
    rows: list[list[torch.Tensor]] = []
    for index in indices:
        clean, noisy = noisy_copy(part, index, noise)
        assert clean is not None
        rows.append([_centre(image, side) for image in (clean, noisy, denoise(noisy))])
    clean, noisy, denoised = (torch.cat(column) for column in zip(*rows, strict=True))
    return clean, noisy, denoised


def _centre(images: torch.Tensor, side: int) -> torch.Tensor:
    top, left = ((length - side) // 2 for length in images.shape[-2:])
    return images[..., top : top + side, left : left + side]


def _curve(config: Config, part: Part, denoisers: Mapping[str, Denoiser]) -> dict[str, Any]:
    """Mean PSNR of the first test images over the levels of Gaussian noise."""
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
