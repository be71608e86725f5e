"""Stage 3, evaluate: score the best epoch of a run on the test set, at its own and at the reference noise levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.data.prepared import PreparedData
from pipeline.errors import counted
from pipeline.files import sha256_file
from pipeline.models import added_modules, count_parameters, other_modules
from pipeline.noise import Noise
from pipeline.noise import added_modules as added_noises
from pipeline.reports import figures
from pipeline.reports.svg import as_file
from pipeline.scoring.digit_reader import WEIGHTS
from pipeline.scoring.evaluation import Evaluation, Summary, evaluate_denoiser, has_other_data, reference_noises
from pipeline.scoring.metrics import METRICS
from pipeline.scoring.progress import telling
from pipeline.scoring.quality import ESTIMATED, LEVEL, PSNR, Quality
from pipeline.scoring.score import model_denoiser
from pipeline.stages.inputs import load_checkpoint, load_training_data, read_evaluation
from pipeline.text import say
from pipeline.tracking import names, scores
from pipeline.tracking.fingerprint import Fingerprint, fingerprint
from pipeline.tracking.run import OpenRun
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.devices import choose_device
from pipeline.training.objectives import TARGETS

_WORST = {  # what is said of the worst images, by what the quality is
    PSNR: "with the lowest PSNR",
    ESTIMATED: "with the lowest estimated PSNR",
    LEVEL: "from which most was removed",
}


def evaluate(
    config: Config, run: OpenRun, also: Sequence[Noise] = (), force: bool = False, verdict: bool = True
) -> dict[str, Summary]:
    """Score the checkpoint of `run` on the test images, and log metrics, figures and a description as one group.

    Returns the scores by the labels of the noises.

    Results of an earlier call with the same weights, images and source are reused.

    Args:
        config: of the run.
        run: the run, which is written to.
        also: noises to score at, besides the one that the run was trained with and the reference levels.
        force: score again even if no input changed.
        verdict: print it, if the model is no better than doing nothing; not where the caller ends with that anyway.

    Raises:
        PipelineError: the run has no checkpoint, or the prepared data are not those it was trained on.
    """
    data = load_training_data(config, run)
    checkpoint = load_checkpoint(run)
    own = config.training_noise
    noises = {noise.label: noise for noise in (*reference_noises(config), own, *also)}
    parts = _fingerprint(config, data, checkpoint, noises.values())
    earlier = None if force else _earlier(run, parts)
    if earlier and set(noises) <= set(earlier["results"]):
        say(f"evaluate: reusing the results of run {run.id}")
        _print(earlier, noises, own, verdict)
        return earlier["results"]

    device = choose_device(config.device)
    model = checkpoint.load_model(device)
    denoise = telling(model_denoiser(model, device), "evaluate")
    found = evaluate_denoiser(denoise, config, data, noises.values())

    known = earlier["results"] if earlier else {}
    report = {**found.report(), "results": {**known, **found.results}}
    with run.together():  # so that a call that is killed and repeated logs nothing twice
        run.log_metrics(scores.by_noise({label: of for label, of in found.results.items() if label not in known}))
        run.log_tags({names.QUALITY: "better" if Quality.of(found.results[own.label]).is_better else "worse"})
        if not earlier:
            run.log_metrics(scores.at_training_noise(found.results[own.label]))
            _log_other_data(run, found, own)
        _log_figures(run, found, own)
        run.log_table(_image_scores(found), names.IMAGE_SCORES)
        run.log_dict(report, names.EVALUATION)
        with run.artifact(names.EVALUATION) as path:
            run.log_tags({names.EVALUATION_SHA256: sha256_file(path)})
        run.describe(_description(config, count_parameters(model), len(data.test), found))
        run.log_fingerprint("evaluate", parts)
    _print(report, noises, own, verdict)
    return report["results"]


def is_done(config: Config, run: OpenRun, data: PreparedData) -> bool:
    """Whether `evaluate` would reuse the results of `run`; says what has changed if not."""
    noises = {noise.label: noise for noise in (*reference_noises(config), config.training_noise)}
    earlier = _earlier(run, _fingerprint(config, data, load_checkpoint(run), noises.values()))
    return earlier is not None and set(noises) <= set(earlier["results"])


def _log_other_data(run: OpenRun, found: Evaluation, own: Noise) -> None:
    for name, summary in found.other_data.items():
        run.log_metrics({names.other_data_metric(name, "psnr", own.label): summary["denoised"]["psnr"]})


def _image_scores(found: Evaluation) -> dict[str, np.ndarray]:
    """A row for each test image, of which JSON has no NaN."""
    known = {name: np.round(values, 5) for name, values in found.images.items()}
    count = len(next(iter(known.values())))
    rows = np.flatnonzero(np.all([np.isfinite(values) for values in known.values()], axis=0))
    return {"image": np.arange(count)[rows], **{name: values[rows] for name, values in known.items()}}


def _log_figures(run: OpenRun, found: Evaluation, own: Noise) -> None:
    sample = found.samples[own.label]
    known = {name: part.numpy() for name, part in zip(names.SAMPLE, sample, strict=True) if part is not None}
    run.log_arrays(known, names.SAMPLES)
    drawn = {"denoised": figures.denoising_grid(sample, f"Test images, {own.description}")}
    if len(found.samples) > 1:
        drawn["noise_levels"] = figures.noise_levels(found.samples, trained_on=own.description)
    title = f"The {counted(len(found.worst), 'test image')} {_WORST[Quality.of(found.results[own.label]).metric]}"
    drawn["worst"] = figures.denoising_grid(found.worst_sample, f"{title}, {own.description}")
    if found.curve:
        drawn["psnr"] = figures.psnr_curve(found.curve, trained_on=own)
    for name, figure in drawn.items():
        run.log_figure(figure, name, as_file(figure))


def _description(config: Config, parameters: int, images: int, found: Evaluation) -> str:
    noise = config.training_noise
    quality = Quality.of(found.results[noise.label])
    target = "" if config.target == "clean" else f", compared with {TARGETS[config.target][1]}"
    text = f"{quality.text}, on the {counted(images, 'test image')}."
    if quality.metric == PSNR:
        noisy = found.results[noise.label]["noisy"]["psnr"]
        text = (
            f"{quality.output:.2f} dB PSNR on the {counted(images, 'test image')}; the noisy input has {noisy:.2f} dB "
            f"and the clipped input {quality.input:.2f} dB."
        )
    return (
        f"{config.model_name} ({parameters:,} parameters), trained on {config.dataset_name} with {noise.description}"
        f"{target}: {text}" + (f"\n\n**{quality.verdict}**" if quality.verdict else "")
    )


def _print(report: Mapping[str, Any], labels: Iterable[str], own: Noise, verdict: bool) -> None:
    for label in labels:
        say(f"evaluate: {label}: {describe_scores(report['results'][label])}")
    if by_class := report.get("by_class", {}).get(own.label):
        classes = ", ".join(f"{name}: {value:.1f}" for name, value in by_class.items())
        say(f"evaluate: {own.label}: PSNR in dB by class: {classes}")
    for name, summary in report["other_data"].items():
        say(f"evaluate: {own.label} on {name}: PSNR {_psnrs(summary)}")
    if verdict and (text := Quality.of(report["results"][own.label]).verdict):
        say(f"evaluate: {own.label}: {text}")


def describe_scores(summary: Mapping[str, Mapping[str, float]]) -> str:
    """The scores at one noise, `{denoiser: {metric: mean}}`, for the terminal."""
    denoised = summary["denoised"]
    if "psnr" in denoised:
        accuracy = f"; digits read {denoised['accuracy']:.2%}" if "accuracy" in denoised else ""
        return f"PSNR {_psnrs(summary)}; SSIM {denoised['ssim']:.4f}{accuracy}"
    if "removed" in denoised:
        return (
            f"{Quality.of(summary).text}; removed {denoised['removed']:.4f}, whiteness of it "
            f"{denoised['whiteness']:.3f} (0 is white noise); there is no PSNR without clean images"
        )
    return f"{Quality.of(summary).text}; estimated from other captures of the scenes"


def _psnrs(summary: Mapping[str, Mapping[str, float]]) -> str:
    return ", ".join(f"{name} {values['psnr']:.2f} dB" for name, values in summary.items())


def _fingerprint(config: Config, data: PreparedData, checkpoint: Checkpoint, noises: Iterable[Noise]) -> Fingerprint:
    return fingerprint(
        "pipeline.stages.evaluate",
        packages=("matplotlib", "numpy", "torch"),
        ignore=other_modules(config.model),
        added=[
            *added_modules(config.model),
            *(module for noise in noises for module in added_noises(noise.spec)),
            *METRICS.modules(METRICS.added),
        ],
        files=[WEIGHTS],
        data=data.digest,
        weights=checkpoint.digest,
        device=choose_device(config.device),
        other_data=has_other_data(config),
    )


def _earlier(run: OpenRun, parts: Fingerprint) -> dict[str, Any] | None:
    """The report of an earlier call, perhaps with other noises, if nothing it depends on has changed."""
    if not run.is_done("evaluate", parts):
        return None
    with run.artifact(names.EVALUATION) as path:
        if sha256_file(path) != run.tag(names.EVALUATION_SHA256):
            say(f"evaluate: not reusing the results of run {run.id}: {names.EVALUATION} is damaged")
            return None
        return read_evaluation(path, run.id)
