"""Score the model of a run on a dataset that it has nothing to do with. The run's own results stay as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.data.images import Part
from pipeline.data.sources import open_source
from pipeline.errors import ArgumentError, PipelineError
from pipeline.files import read_json, sha256_bytes
from pipeline.noise import Noise, make_noise
from pipeline.reports import figures
from pipeline.scoring import awgn
from pipeline.scoring.evaluation import Summary, sample
from pipeline.scoring.progress import telling
from pipeline.scoring.quality import Quality
from pipeline.scoring.score import PROTOCOL, for_gray, model_denoiser
from pipeline.stages.inputs import load_checkpoint
from pipeline.stages.other_data import images_of, print_scores, score_images
from pipeline.text import say
from pipeline.tracking import names, scores
from pipeline.tracking.run import OpenRun
from pipeline.training.devices import choose_device


def evaluate_elsewhere(
    config: Config, run: OpenRun, other: Config, noises: Mapping[str, Noise], protocol: str, force: bool
) -> None:
    """Score the checkpoint of `run` on another dataset, and log metrics, a figure and a report to `run`.

    Of a dataset that has test images of its own, these are scored, of any other all. Results of an earlier call on the
    same images are reused. The data that the run was trained on are not needed.

    Args:
        config: of the run.
        run: the run, which is written to.
        other: names the dataset, its noisy images and its levels.
        noises: to score at, by label; none for the noise of the images, or else that of the training.
        protocol: "awgn" for the noises of `pipeline.scoring.awgn`, or "".
        force: score again even if that was done.

    Raises:
        PipelineError: the images cannot be read, have another number of channels than the model, or have not what the
            noise needs.
    """
    _check_is_other(config, other)
    checkpoint, name, source = load_checkpoint(run), names.metric_text(other.dataset_name), open_source(other)
    inputs = sha256_bytes(json.dumps([source.inputs(), other.white, other.black]).encode())
    noises = awgn.noises() if protocol else noises
    report = None if force else _earlier(run, name, inputs)
    if report and set(noises or [report["own"]]) <= set(report["results"]):
        say(f"evaluate: {name}: reusing the results of run {run.id}")
        print_scores(name, report["results"], [*noises] or [report["own"]], report.get("digest", ""))
        return
    with images_of(source, other, checkpoint.channels) as part:
        own = make_noise("recorded", clip=config.clip_input) if part.noisy is not None else config.training_noise
        noises = noises or _alone(own, part, other)
        part = awgn.ordered(part) if protocol else part
        device = choose_device(config.device)
        denoise = telling(model_denoiser(checkpoint.load_model(device), device), "evaluate")
        if part.images[0].shape[0] != checkpoint.channels:
            denoise = for_gray(denoise, checkpoint.channels)
        found = score_images(part, denoise, noises)
        for label, noise in noises.items():
            title = f"Images of {name}, {noise.description}"
            run.log_figure(figures.denoising_grid(sample(part, noise, denoise), title), f"test-{name}-{label}")
    results = {**(report["results"] if report else {}), **found}
    report = {
        "protocol": {**PROTOCOL, "awgn": awgn.PROTOCOL},
        "images": len(part),
        "inputs": inputs,
        "digest": awgn.digest_of(part),
        "own": own.label,
        "results": results,
    }
    with run.together():
        _log_scores(run, name, found)
        run.log_dict(report, names.other_data_file(name))
    print_scores(name, results, [*noises], report["digest"])


def _alone(own: Noise, part: Part, other: Config) -> dict[str, Noise]:
    """The noise to score at where none is given, by its label."""
    if own.is_recorded and part.noisy is None:
        raise ArgumentError(
            f"--dataset {other.dataset}: the images are clean, and the model was trained on images with noise of their "
            "own; say which noise to add, such as --variance 0.01, or --protocol awgn"
        )
    return {own.label: own}


def _check_is_other(config: Config, other: Config) -> None:
    """Refuse the folder that the model was trained on."""
    folder = Path(other.dataset)
    if not other.noisy and folder.exists() and folder.resolve() == Path(config.dataset).resolve():
        raise ArgumentError(
            f"--dataset {other.dataset}: the model was trained on images of this folder, so its score there means "
            "nothing; evaluate without --dataset scores the test images that were set aside"
        )


def _log_scores(run: OpenRun, name: str, found: Mapping[str, Summary]) -> None:
    for label, of in found.items():
        run.log_metrics(
            {names.other_data_metric(name, metric, label): value for metric, value in scores.few(of).items()}
        )
    verdicts = {label: "better" if Quality.of(of).is_better else "worse" for label, of in found.items()}
    run.log_tags({names.other_data_tag(name, label): verdict for label, verdict in verdicts.items()})


def _earlier(run: OpenRun, name: str, inputs: str) -> dict[str, Any] | None:
    """The report of an earlier call on the same images."""
    try:
        with run.artifact(names.other_data_file(name)) as path:
            report = read_json(path)
    except PipelineError:
        return None
    return report if report.get("inputs") == inputs else None
