"""Stage 2, train: fit the model to the prepared images, and leave the best epoch in the run."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import click
import torch
from torch import nn

from pipeline import launcher
from pipeline.config import Config
from pipeline.data.batches import Batches, training_batches, validation_images
from pipeline.data.images import to_images
from pipeline.data.prepared import PreparedData, load_prepared, read_manifest
from pipeline.errors import PipelineError
from pipeline.models import build_model, count_parameters, other_modules
from pipeline.reports import figures
from pipeline.signals import deferred
from pipeline.stages.inputs import read_checkpoint
from pipeline.tracking import names, queries, store
from pipeline.tracking.fingerprint import Fingerprint, describe_changes, digest, fingerprint
from pipeline.tracking.run import OpenRun
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.devices import choose_device, choose_precision
from pipeline.training.distributed import LostError, Team, end_at_signals, join, leave_signals_to_process_0
from pipeline.training.loop import Best, Epoch, Point, batch_norms, fit
from pipeline.training.progress import TrainingProgress
from pipeline.training.states import States

_SLIDER_IMAGES = 8
VALIDATION_IMAGES = 4000  # enough to tell epochs apart; the rest would only cost time


def find_trained(config: Config) -> str | None:
    """The id of a finished run whose training would only be repeated, bit for bit, if `config` were trained.

    Where there is none, but a run of the same name, it is said what has changed since.
    """
    manifest = read_manifest(config)
    if manifest is None:
        return None
    parts = _fingerprint(config, manifest["digest"])
    tag = names.fingerprint_tag("train")
    same = queries.trained_runs(f"tags.`{tag}` = '{digest(parts)}'", create=True)
    alike = queries.trained_runs(f"attributes.run_name = '{config.run_name}'")
    for run in (same or alike)[:1]:
        run_id = run.info.run_id
        try:
            with tempfile.TemporaryDirectory() as folder:
                if same:
                    read_checkpoint(
                        store.download(run_id, names.CHECKPOINT, folder), run_id, run.data.tags[names.WEIGHTS]
                    )
                    return run_id
                former = json.loads(store.download(run_id, names.fingerprint_file("train"), folder).read_text())
                click.echo(f"train: not reusing run {run_id}, changed: {describe_changes(parts, former)}")
        except PipelineError as error:  # something of it is damaged or lost
            click.echo(f"train: not reusing run {run_id}: {error}")
    return None


def _fingerprint(config: Config, data_digest: str) -> Fingerprint:
    options = {
        key: value for key, value in asdict(config).items() if key not in ("dataset", "data_dir", "device", "model")
    }
    return fingerprint(
        "pipeline.stages.train",
        packages=("numpy", "torch"),
        # The digest of the data says it all, and other models have no part in this.
        ignore=["pipeline.data.sources", *other_modules(config.model)],
        dataset=config.dataset_name,
        data=data_digest,
        model=config.model,
        device=choose_device(config.device),
        **options,
    )


def train(config: Config, run: OpenRun, state_every: float = math.inf) -> None:
    """Train `config.model`, log every epoch to `run`, and keep the best epoch as the artifact `CHECKPOINT`.

    A training of `run` that was interrupted goes on where it was; one that has ended is left as it is.

    Args:
        config: that of the run.
        run: is written to.
        state_every: keep the state of the training so often, in seconds, besides after every epoch.

    Raises:
        PipelineError: nothing is prepared, the device is not there, or the loss is not finite any more.
        Stopped: a signal came. The state after the step that it came in is kept.
    """
    states = States(run.folder / "states")
    try:
        with join(choose_device(config.device)) as team:
            if run.tag(names.WEIGHTS):
                click.echo(f"train: reusing what run {run.id} has trained")
                return
            _train(config, run, states, state_every, team)
    except LostError as lost:
        raise LostError(f"{lost}; go on with: --resume {run.id}") from lost
    states.remove()


def assist(device: str) -> NoReturn:
    """Train with process 0 of torchrun what it trains, if it trains anything, and end this process.

    Args:
        device: auto, cpu, cuda or mps: where all of them compute.

    Raises:
        PipelineError: nothing is prepared here, or not the same, or another process is gone.
    """
    end_at_signals()
    with join(choose_device(device)) as team:
        if job := team.take():
            leave_signals_to_process_0()
            config = Config.from_json(job["config"])
            data = load_prepared(config)
            if data.digest != job["data"]:
                raise PipelineError(f"{config.data_dir} holds other images than that of process 0")
            _fit(config, _material(config, data), job["state"] or None, team)
    # At once: gloo's threads may hold tensors still, and abort a process whose interpreter is gone. torchrun would then
    # end process 0, too.
    os._exit(0)


@dataclass(frozen=True)
class _Material:
    """What a training starts from."""

    model: nn.Module
    batches: Batches
    validation: torch.Tensor  # uint8 [N, C, H, W], on the device
    device: torch.device


def _material(config: Config, data: PreparedData) -> _Material:
    device = choose_device(config.device)
    batches = training_batches(data.train, config.crop, device)
    validation = validation_images(data.validation[:VALIDATION_IMAGES], config.crop, device)[:VALIDATION_IMAGES]
    torch.manual_seed(config.seed)
    model = build_model(config.model, config.size, config.channels).to(device)
    return _Material(model, batches, validation, device)


def _fit(config: Config, material: _Material, state: dict[str, Any] | None, team: Team, **callbacks: Any) -> Best:
    return fit(
        material.model,
        material.batches,
        material.validation,
        config.training_noise,
        recipe=config.training_recipe,
        target=config.target,
        seed=config.seed,
        team=team,
        compiled=config.compile,
        state=state,
        **callbacks,
    )


def _train(config: Config, run: OpenRun, states: States, state_every: float, team: Team) -> None:
    data = load_prepared(config)
    run.log_dataset(data, config.dataset_name)
    material = _material(config, data)
    model, batches, device = material.model, material.batches, material.device
    precision = choose_precision(config.precision, device)
    run.log_params({names.PARAMETERS: count_parameters(model)})
    run.log_tags(
        {
            names.DEVICE: str(device),
            names.PROCESSES: str(team.count),
            names.TORCH: torch.__version__,
            names.PRECISION: str(precision).split(".")[1],
        }
    )

    # After so many steps, what a running statistic started with weighs less than 1 %.
    enough = math.ceil(math.log(0.01) / math.log1p(-config.bn_momentum)) if config.bn_momentum < 1 else 1
    steps = math.ceil(len(batches) / config.batch_size) * config.epochs
    if steps < enough and batch_norms(model):
        click.echo(
            f"train: only {steps} steps in all; BatchNorm's running statistics need {enough} at --bn-momentum "
            f"{config.bn_momentum:g}: more --epochs or a smaller --batch-size will do much better"
        )

    # The same few noisy validation images are denoised at every point of the learning curve, for the step slider.
    samples = to_images(material.validation[:_SLIDER_IMAGES].cpu())
    noisy_samples = config.training_noise(samples, torch.Generator().manual_seed(0))

    progress = TrainingProgress(config.epochs, len(batches))
    state = states.load()
    earlier_seconds = 0.0
    if state:
        _check_state(state, config, run)
        progress.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        progress.points = [Point(**point) for point in state["points"]]
        earlier_seconds = state["seconds"]
        click.echo(f"train: goes on in epoch {state['epoch']}, after {state['seen']:,} of its images")
    logged = {metric: run.steps(metric) for metric in (names.TRAIN_LOSS, names.VALIDATION_LOSS)}
    if logged[names.TRAIN_LOSS] and not state:
        click.echo(f"train: {run.folder} holds no state of this training: it starts again, from the first epoch")

    began = last_state = time.perf_counter()

    def state_due() -> bool:
        return signals.asked or time.perf_counter() - last_state > state_every

    def on_state(state: dict[str, Any]) -> None:
        nonlocal last_state
        seconds = earlier_seconds + time.perf_counter() - began
        curve = {"epochs": [*map(asdict, progress.epochs)], "points": [*map(asdict, progress.points)]}
        states.save({**state, **curve, "seconds": seconds, "config": config.to_json(), **_machine()})
        last_state = time.perf_counter()
        signals.check()

    def on_point(point: Point) -> None:
        progress.point(point)
        if point.images in logged[names.TRAIN_LOSS]:  # before the interruption, which came before its state was kept
            return
        with torch.no_grad():
            denoised = model(noisy_samples.to(device)).cpu()
        strip = figures.image_strip([noisy_samples, denoised, samples])
        with run.together():
            run.log_image(strip, "noisy - denoised - clean", point.images)
            run.log_metrics({names.TRAIN_LOSS: point.loss, names.LEARNING_RATE: point.learning_rate}, step=point.images)

    def on_epoch(epoch: Epoch) -> None:
        progress.epoch(epoch)
        if epoch.images not in logged[names.VALIDATION_LOSS]:
            run.log_metrics(
                {names.VALIDATION_LOSS: epoch.validation_loss, names.IMAGES_PER_SECOND: epoch.images_per_second},
                step=epoch.images,
            )

    # Train.
    with progress, deferred() as signals:
        team.give({"config": config.to_json(), "data": data.digest, "state": state or {}})
        best = _fit(
            config,
            material,
            state,
            team,
            on_progress=progress.update,
            on_point=on_point,
            on_epoch=on_epoch,
            on_state=on_state,
            state_due=state_due,
        )

    seconds = earlier_seconds + time.perf_counter() - began

    # Keep the best epoch.
    checkpoint = Checkpoint(
        config.model, config.size, config.channels, best.epoch, best.validation_loss, best.state_dict, best.images
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(names.CHECKPOINT).name
        checkpoint.save(path)
        run.log_file(path, str(Path(names.CHECKPOINT).parent))
    scores = {
        names.BEST_EPOCH: best.epoch,
        names.BEST_VALIDATION_LOSS: best.validation_loss,
        names.TRAIN_SECONDS: seconds,
    }
    with run.together():
        run.log_metrics(scores)
        run.log_fingerprint("train", _fingerprint(config, data.digest))
        run.log_tags({names.WEIGHTS: checkpoint.digest})
    run.log_figure(
        figures.loss_curves(progress.points, progress.epochs, best.epoch, config.loss, config.target), "loss"
    )


def _machine() -> dict[str, Any]:
    """What else decides the last bits of a sum."""
    return {"torch": str(torch.__version__), "threads": torch.get_num_threads(), "processes": launcher.count()}


def _check_state(state: dict[str, Any], config: Config, run: OpenRun) -> None:
    if state["config"] != config.to_json():
        raise PipelineError(f"run {run.id} was interrupted with another config than its own: {state['config']}")
    for key, value in _machine().items():
        if state[key] != value:
            click.echo(
                f"train: was interrupted with {key} {state[key]} and goes on with {value}: the last bits may differ "
                "from those of an uninterrupted training",
                err=True,
            )
