"""Score the model of a run on a dataset that it has nothing to do with. The run's own results stay as they are."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from pipeline.config import AUTO, Config
from pipeline.data.images import Part
from pipeline.data.sources import Source, open_source
from pipeline.errors import PipelineError
from pipeline.files import sha256_bytes
from pipeline.noise import Noise, make_noise
from pipeline.reports import figures
from pipeline.scoring.evaluation import sample, score_noise
from pipeline.scoring.quality import Quality
from pipeline.scoring.score import PROTOCOL, clipped, identity, model_denoiser
from pipeline.stages.evaluate import describe_scores
from pipeline.stages.inputs import load_checkpoint
from pipeline.tracking import names
from pipeline.tracking.run import OpenRun
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.devices import choose_device


def evaluate_elsewhere(config: Config, run: OpenRun, other: Config, noises: Sequence[Noise], force: bool) -> None:
    """Score the checkpoint of `run` on another dataset, and log metrics, a figure and a report to `run`.

    Of a dataset that has test images of its own, these are scored, of any other all. Results of an earlier call on the
    same images are reused. The data that the run was trained on are not needed.

    Args:
        config: of the run.
        run: the run, which is written to.
        other: names the dataset, its noisy images and its levels.
        noises: to score at; none for the noise of the images, or else that of the training.
        force: score again even if that was done.

    Raises:
        PipelineError: the images cannot be read, have another number of channels than the model, or have not what the
            noise needs.
    """
    if (
        not other.noisy
        and Path(other.dataset).exists()
        and Path(other.dataset).resolve() == Path(config.dataset).resolve()
    ):
        raise PipelineError(
            f"--dataset {other.dataset}: the model was trained on images of this folder, so its score there means "
            "nothing; evaluate without --dataset scores the test images that were set aside"
        )
    checkpoint, name, source = load_checkpoint(run), names.metric_text(other.dataset_name), open_source(other)
    inputs = sha256_bytes(json.dumps([source.inputs(), other.white, other.black]).encode())
    report = None if force else _earlier(run, name, inputs)
    labels = [noise.label for noise in noises]
    if report and (set(labels) <= set(report["results"]) if labels else report["own"] in report["results"]):
        click.echo(f"evaluate: {name}: reusing the results of run {run.id}")
        _print(name, report["results"], labels or [report["own"]])
        return
    Path(other.data_dir).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=other.data_dir) as scratch:
        part = _read(source, other, checkpoint.channels, Path(scratch))
        own = make_noise("recorded", clip=config.clip_input) if part.noisy is not None else config.training_noise
        chosen = {noise.label: noise for noise in noises or [own]}
        found = _score(config, run, checkpoint, part, name, chosen)
    results = {**(report["results"] if report else {}), **found}
    report = {"protocol": PROTOCOL, "images": len(part), "inputs": inputs, "own": own.label, "results": results}
    with run.together():
        for label, of in found.items():
            run.log_metrics(
                {
                    names.other_data_metric(
                        name, metric if denoiser == "denoised" else f"{metric}_{denoiser}", label
                    ): value
                    for denoiser, values in of.items()
                    for metric, value in values.items()
                },
                step=checkpoint.images,
            )
        verdicts = {label: "better" if Quality.of(of).is_better else "worse" for label, of in found.items()}
        run.log_tags({names.other_data_tag(name, label): verdict for label, verdict in verdicts.items()})
        run.log_dict(report, names.other_data_file(name))
    _print(name, results, list(chosen))


def _read(source: Source, other: Config, channels: int, scratch: Path) -> Part:
    """The test images of the dataset, or else all."""
    division = source.divide(channels if channels in (1, 3) else AUTO, scratch)
    for line in division.lines:
        click.echo(f"evaluate: {other.dataset}: {line}")
    part = division.train if division.test is None else division.test
    if (found := part.images[0].shape[0]) != channels:
        raise PipelineError(
            f"--dataset {other.dataset}: the images have {found} channel{'s' if found > 1 else ''}, and the model "
            f"takes {channels}"
        )
    return part


def _score(
    config: Config, run: OpenRun, checkpoint: Checkpoint, part: Part, name: str, noises: Mapping[str, Noise]
) -> dict[str, dict[str, dict[str, float]]]:
    """The scores by label of the noise; logs a figure for each."""
    device = choose_device(config.device)
    denoise = model_denoiser(checkpoint.load_model(device), device)
    denoisers = {"noisy": identity, "clipped": clipped, "denoised": denoise}
    results = {}
    for label, noise in noises.items():
        results[label] = score_noise(part, noise, denoisers).summary
        title = f"Images of {name}, {noise.description}"
        figure = figures.denoising_grid(sample(part, noise, denoise), title)
        run.log_figure(figure, f"test-{name}-{label}")
    return results


def _earlier(run: OpenRun, name: str, inputs: str) -> dict[str, Any] | None:
    """The report of an earlier call on the same images."""
    try:
        with run.artifact(names.other_data_file(name)) as path:
            report: dict[str, Any] = json.loads(path.read_text())
    except (PipelineError, ValueError):
        return None
    return report if report.get("inputs") == inputs else None


def _print(name: str, results: Mapping[str, Any], labels: Sequence[str]) -> None:
    for label in labels:
        click.echo(f"evaluate: {name}: {label}: {describe_scores(results[label])}")
        if verdict := Quality.of(results[label]).verdict:
            click.echo(f"evaluate: {name}: {label}: {verdict}")
