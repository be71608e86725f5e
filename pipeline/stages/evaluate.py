"""Stage 3, evaluate: score the best epoch of a run on the test set, at its own and at the reference noise levels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from pipeline.config import CURVE_VARIANCES, REFERENCE_VARIANCES, Config
from pipeline.data.images import Images
from pipeline.data.prepared import PreparedData
from pipeline.data.sources import open_source
from pipeline.files import sha256_file
from pipeline.models import count_parameters, other_modules
from pipeline.noise import Noise, make_noise
from pipeline.reports import figures
from pipeline.scoring.digit_reader import WEIGHTS, load_classifier
from pipeline.scoring.metrics import METRICS, Metric
from pipeline.scoring.score import (
    PROTOCOL,
    Denoiser,
    Scores,
    clipped,
    identity,
    means,
    model_denoiser,
    noisy_copy,
    score,
)
from pipeline.stages.inputs import load_checkpoint, load_training_data
from pipeline.tracking import names
from pipeline.tracking.fingerprint import Fingerprint, fingerprint
from pipeline.tracking.run import Run
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.devices import choose_device
from pipeline.training.objectives import TARGETS

_GRID_IMAGES = 8
_WORST_IMAGES = 10
_SHOWN_SIDE = 128  # pixels of an image in a figure
_CURVE_PIXELS = 784_000  # as many as 1,000 digits have


def evaluate(config: Config, run: Run, also: Sequence[Noise] = (), force: bool = False) -> None:
    """Score the checkpoint of `run` on the test images, and log metrics, figures and a description.

    What an earlier call found with the same weights, images and source is reused.

    Args:
        config: that of the run.
        run: is written to.
        also: noises to score at, besides the one that the run was trained for and the reference levels.
        force: score again in any case.

    Raises:
        PipelineError: the run has no checkpoint, or was trained on other data than is prepared.
    """
    data = load_training_data(config, run)
    checkpoint = load_checkpoint(run)
    own = config.training_noise
    noises = {noise.label: noise for noise in (*reference_noises(config), own, *also)}
    parts = _fingerprint(config, data, checkpoint)
    earlier = None if force else _earlier(run, parts)
    if earlier and set(noises) <= set(earlier["results"]):
        click.echo(f"evaluate: reusing what run {run.id} has found")
        _tell(earlier, noises, own)
        return
    device = choose_device(config.device)
    model = checkpoint.load_model(device)
    denoise = model_denoiser(model, device)
    denoisers = {"noisy": identity, "clipped": clipped, "denoised": denoise}

    # Score the noisy input, the clipped input and the model at every level.
    scores = {label: score(data.test, noise, denoisers, _metrics(config, data)) for label, noise in noises.items()}
    results = {label: _summarise(values, data.test_labels) for label, values in scores.items()}
    run.log_scores(results, step=checkpoint.images)
    report: dict[str, Any] = {
        "protocol": PROTOCOL,
        "results": {**(earlier["results"] if earlier else {}), **results},
    }

    # Show the same images at every level, the training noise by itself, and where the model does worst.
    first = range(min(_GRID_IMAGES, len(data.test)))
    samples = {label: _samples(data.test, first, noise, denoise) for label, noise in noises.items()}
    run.log_figure(figures.denoising_grid(samples[own.label], f"Test images, {own.description}"), "denoised")
    run.log_arrays(dict(zip(names.SAMPLE, (part.numpy() for part in samples[own.label]), strict=True)), names.SAMPLES)
    run.log_figure(figures.noise_levels(samples, trained_on=own.description), "noise_levels")
    worst = np.argsort(scores[own.label]["denoised"]["psnr"])[:_WORST_IMAGES].tolist()
    title = f"The {len(worst)} test images with the lowest PSNR, {own.description}"
    run.log_figure(figures.denoising_grid(_samples(data.test, worst, own, denoise), title), "worst")
    report["worst"] = worst

    # Draw the quality over the noise level, from a clean image to far out of range.
    report["curve"] = curve = _curve(config, data.test, denoisers)
    run.log_figure(figures.psnr_curve(curve, trained_on=own), "psnr")

    if data.test_labels is not None:
        report["by_class"] = _by_class(scores, data.test_labels)
    report["other_data"] = other_data(config, denoisers, own)
    for name, values in report["other_data"].items():
        run.log_metrics(
            {names.other_data_metric(name, "psnr", own.label): values["denoised"]["psnr"]}, step=checkpoint.images
        )
    with run.together():
        run.log_dict(report, names.EVALUATION)
        with run.artifact(names.EVALUATION) as path:
            run.log_tags({names.EVALUATION_SHA256: sha256_file(path)})
        run.log_fingerprint("evaluate", parts)

    psnrs = {name: results[own.label][name]["psnr"] for name in denoisers}
    run.describe(
        f"{config.model_name} ({count_parameters(model):,} parameters), trained on {config.dataset_name} with "
        f"{own.description}"
        + ("" if config.target == "clean" else f", compared with {TARGETS[config.target][1]}")
        + f": {psnrs['denoised']:.2f} dB PSNR on the {len(data.test):,} test images, where the noisy input has "
        f"{psnrs['noisy']:.2f} dB and the clipped input {psnrs['clipped']:.2f} dB."
    )
    _tell(report, noises, own)


def _tell(report: Mapping[str, Any], labels: Iterable[str], own: Noise) -> None:
    for label in labels:
        of = report["results"][label]
        psnr_texts = ", ".join(f"{name} {values['psnr']:.2f} dB" for name, values in of.items())
        accuracy = f"; digits read {of['denoised']['accuracy']:.2%}" if "accuracy" in of["denoised"] else ""
        click.echo(f"evaluate: {label}: PSNR {psnr_texts}; SSIM {of['denoised']['ssim']:.4f}{accuracy}")
    if "by_class" in report:
        classes = ", ".join(f"{name}: {value:.1f}" for name, value in report["by_class"][own.label].items())
        click.echo(f"evaluate: {own.label}: PSNR in dB by class: {classes}")


def _fingerprint(config: Config, data: PreparedData, checkpoint: Checkpoint) -> Fingerprint:
    return fingerprint(
        "pipeline.stages.evaluate",
        packages=("matplotlib", "numpy", "torch"),
        ignore=other_modules(config.model),
        files=[WEIGHTS],
        data=data.digest,
        weights=checkpoint.digest,
        device=choose_device(config.device),
        other_data=_has_other_data(config),
    )


def _earlier(run: Run, parts: Fingerprint) -> dict[str, Any] | None:
    """What an earlier call found, perhaps with other noises, if it still holds."""
    if not run.is_done("evaluate", parts):
        return None
    with run.artifact(names.EVALUATION) as path:
        if sha256_file(path) != run.tag(names.EVALUATION_SHA256):
            click.echo(f"evaluate: not reusing what run {run.id} has: {names.EVALUATION} is damaged")
            return None
        return json.loads(path.read_text())


def reference_noises(config: Config) -> list[Noise]:
    """Gaussian noise at the levels that all runs are scored at."""
    return [make_noise("gaussian", f"{variance:g}", config.clip_input) for variance in REFERENCE_VARIANCES]


def _metrics(config: Config, data: PreparedData) -> dict[str, Metric]:
    """Those of every dataset; for MNIST also what the classifier reads in every image."""
    if config.dataset != "mnist" or data.test_labels is None:
        return METRICS
    classifier = load_classifier()
    return {**METRICS, "digit": lambda images, clean: classifier.read(images)}


def _summarise(scores: Scores, labels: np.ndarray | None) -> dict[str, dict[str, float]]:
    summary = {}
    for name, values in scores.items():
        values = dict(values)
        if "digit" in values:
            values["accuracy"] = (values.pop("digit") == labels).astype(float)
        summary[name] = means(values)
    return summary


def _by_class(scores: Mapping[str, Scores], labels: np.ndarray) -> dict[str, dict[str, float]]:
    """Mean PSNR of the model's output for the images of every class: `{label: {class: dB}}`."""
    return {
        label: {
            str(of_class): float(values["denoised"]["psnr"][labels == of_class].mean())
            for of_class in np.unique(labels).tolist()
        }
        for label, values in scores.items()
    }


def _samples(images: Images, indices: Sequence[int], noise: Noise, denoise: Denoiser) -> figures.Sample:
    """Clean, noisy and denoised images, cut down to one size around their middle."""
    side = min(_SHOWN_SIDE, *(min(images[index].shape[1:]) for index in indices))
    rows: list[list[torch.Tensor]] = []
    for index in indices:
        clean, noisy = noisy_copy(images[index], index, noise)
        rows.append([_middle(image, side) for image in (clean, noisy, denoise(noisy))])
    clean, noisy, denoised = (torch.cat(column) for column in zip(*rows, strict=True))
    return clean, noisy, denoised


def _middle(images: torch.Tensor, side: int) -> torch.Tensor:
    top, left = ((length - side) // 2 for length in images.shape[-2:])
    return images[..., top : top + side, left : left + side]


def _curve(config: Config, images: Images, denoisers: Mapping[str, Denoiser]) -> dict[str, Any]:
    """Mean PSNR of the first test images over the levels of Gaussian noise."""
    few = images[: max(1, _CURVE_PIXELS // images[0][0].size)]
    psnr: dict[str, list[float]] = {name: [] for name in denoisers}
    for variance in CURVE_VARIANCES:
        noise = make_noise("gaussian", f"{variance:g}", config.clip_input)
        for name, values in score(few, noise, denoisers, {"psnr": METRICS["psnr"]}).items():
            psnr[name].append(float(values["psnr"].mean()))
    return {"images": len(few), "variances": list(CURVE_VARIANCES), "psnr": psnr}


def _has_other_data(config: Config) -> bool:
    return config.dataset == "mnist" and (Path(config.data_dir) / "FashionMNIST" / "raw").is_dir()


def other_data(config: Config, denoisers: Mapping[str, Denoiser], noise: Noise) -> dict[str, Any]:
    """Scores on images of another kind, for a model of MNIST's digits, where they are at hand."""
    if not _has_other_data(config):
        return {}
    images = open_source("fashion-mnist", Path(config.data_dir)).images(config.channels)[1]
    assert images is not None  # this dataset sets test images apart
    scores = score(images, noise, denoisers, METRICS)
    click.echo(
        f"evaluate: {noise.label} on fashion-mnist: PSNR "
        + ", ".join(f"{name} {means(values)['psnr']:.2f} dB" for name, values in scores.items())
    )
    return {"fashion-mnist": {name: means(values) for name, values in scores.items()}}
