"""Stage 2, train: train the model on the prepared images and keep the best epoch in the run."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from pipeline.config import DATA, Config
from pipeline.data.batches import training_batches, validation_batch
from pipeline.data.images import Part
from pipeline.data.prepared import PreparedData, load_prepared, read_manifest
from pipeline.errors import PipelineError, counted, one_line
from pipeline.files import read_json
from pipeline.models import added_modules, batch_norms, build_model, count_parameters, other_modules
from pipeline.noise import Noise
from pipeline.noise import added_modules as added_noises
from pipeline.reports import figures
from pipeline.reports.svg import as_file
from pipeline.scoring.evaluation import sample
from pipeline.scoring.score import identity
from pipeline.signals import Deferred, deferred
from pipeline.stages.inputs import read_checkpoint
from pipeline.stages.inspect import log_dataset
from pipeline.stages.start import read_start, start_of
from pipeline.text import say
from pipeline.tracking import endings, names, queries, store
from pipeline.tracking.fingerprint import Fingerprint, describe_changes, digest, fingerprint
from pipeline.tracking.run import OpenRun
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.devices import advice_on_load, choose_device
from pipeline.training.distributed import LostError, Team, end_at_signals, join, leave_signals_to_process_0
from pipeline.training.loop import Epoch, Observer, Point, Position, Trained, Trainer
from pipeline.training.progress import ProgressDisplay
from pipeline.training.states import States

VALIDATION_IMAGES = 4000  # enough to tell epochs apart; more would only cost time


def find_trained(config: Config) -> str | None:
    """The id of a finished run whose training `config` would only repeat, bit for bit; None if there is none.

    If a run of the same name was trained on something else, prints what has changed since.
    """
    manifest = read_manifest(config)
    if manifest is None:
        return None
    start = read_start(config)
    parts = _fingerprint(config, manifest["digest"], start.checkpoint.digest if start else "")
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
                former = read_json(store.download(run_id, names.fingerprint_file("train"), folder))
                say(f"train: not reusing run {run_id}, changed: {describe_changes(parts, former)}")
        except PipelineError as error:  # an artifact of the run is damaged or lost
            say(f"train: not reusing run {run_id}: {error}")
    return None


def _fingerprint(config: Config, data_digest: str, start_digest: str) -> Fingerprint:
    # The digest stands for the data, whatever they were prepared from.
    left_out = {*DATA, "device", "model", "start"} - {"seed"}
    options = {key: value for key, value in asdict(config).items() if key not in left_out}
    return fingerprint(
        "pipeline.stages.train",
        packages=("numpy", "torch"),
        # The code of datasets and of other models has no effect; nor has that which reads the weights to start from,
        # whose digest counts, that of the page about the images, and that which chooses images to look at.
        ignore=[
            *("pipeline.data.sources", "pipeline.stages.start", "pipeline.stages.inspect"),
            *("pipeline.scoring.evaluation", "pipeline.scoring.score"),
            *other_modules(config.model),
        ],
        added=[*added_modules(config.model), *added_noises(config.noise)],
        dataset=config.dataset_name,
        data=data_digest,
        model=config.model,
        start=start_digest,
        device=choose_device(config.device),
        **options,
    )


def train(config: Config, run: OpenRun, state_every: float = math.inf) -> None:
    """Train `config.model`, log every epoch to `run`, and keep the best epoch as the artifact `CHECKPOINT`.

    Resumes an interrupted training of `run` where it stopped; does nothing if the training has ended.

    Args:
        config: of the run.
        run: to log to.
        state_every: seconds between saved states of the training, besides the one after every epoch.

    Raises:
        PipelineError: nothing is prepared, the device is missing, or the loss is no longer finite.
        Stopped: a signal came. The state after the step in which it came is saved.
    """
    states = States(run.folder / "states", config)
    device = choose_device(config.device)
    try:
        with join(device) as team:
            if run.tag(names.WEIGHTS):
                say(f"train: reusing what run {run.id} has trained")
            else:
                if device.type == "cpu" and (advice := advice_on_load()):
                    say(f"train: {advice}", err=True)
                _train(config, run, states, state_every, team)
    except LostError as lost:
        raise LostError(f"{lost}; resume with: {endings.resumption(run.tag, run.id)}") from lost
    states.remove()


def assist(device: str) -> NoReturn:
    """Help process 0 of torchrun with its training, if it trains anything, and end this process.

    Args:
        device: auto, cpu, cuda or mps: where all processes compute.

    Raises:
        PipelineError: the prepared data is missing or differs, or another process has ended.
    """
    end_at_signals()
    with join(choose_device(device)) as team:
        if job := team.receive():
            leave_signals_to_process_0()
            config = Config.from_json(job["config"])
            data = load_prepared(config)
            if data.digest != job["data"]:
                raise PipelineError(f"the prepared images in {config.data_dir} are not those that process 0 has")
            trainer = make_trainer(config, data, team, job["start"])
            if job["state"]:
                trainer.load_state_dict(job["state"])
            trainer.run()
    # End at once: gloo's threads may still hold tensors, and would abort a process whose interpreter has shut down.
    # torchrun would then end process 0, too.
    os._exit(0)


def make_trainer(
    config: Config, data: PreparedData, team: Team, start: Mapping[str, torch.Tensor] | None = None
) -> Trainer:
    """The trainer of a run's model on its data, at the start of the training. All processes of `team` make it together.

    Args:
        config: of the run.
        data: that it is trained on.
        team: the processes.
        start: the weights to start from; None or {} for fresh ones.

    Raises:
        PipelineError: the images do not fit `config.crop`.
    """
    device, noise = choose_device(config.device), config.training_noise
    train, validation = (part.for_noise(noise.is_recorded) for part in (data.train, data.validation))
    batches = training_batches(train, config.crop, device, config.crop_by == "detail")
    torch.manual_seed(config.seed)
    model = build_model(config.model, config.size, data.channels)
    if start:
        model.load_state_dict(start)
    return Trainer(
        model.to(device),
        batches,
        validation_batch(validation, config.crop, VALIDATION_IMAGES, device),
        noise,
        config.training_recipe,
        config.epochs,
        target=config.target,
        seed=config.seed,
        team=team,
        compiled=config.compile,
    )


def _train(config: Config, run: OpenRun, states: States, state_every: float, team: Team) -> None:
    """As process 0, with the others of `team`."""
    data = load_prepared(config)
    state = states.load()
    losses = {of: names.loss_metric(of, asdict(config), run.metrics()) for of in (names.TRAIN, names.VALIDATION)}
    logged = {of: run.steps(metric) for of, metric in losses.items()}
    start = start_of(config, run)
    weights = start.checkpoint.weights if start else {}
    team.send({"config": config.to_json(), "data": data.digest, "start": weights, "state": state or {}})
    trainer = make_trainer(config, data, team, weights)
    _log_start(run, config, data, trainer, team)
    _warn_of_few_steps(config, trainer)
    slider = _Slider(trainer, data.test, config.training_noise)
    if state:
        _load_state(trainer, state, states)
        seen = f" after {counted(state['seen'], 'image')} of it" if state["seen"] else ""
        say(f"train: resuming with epoch {state['epoch']}{seen}")
    elif logged[names.TRAIN]:
        say(f"train: {run.folder} holds no state of this training: starting again from the first epoch")
    display = ProgressDisplay(config.epochs, len(trainer.batches))
    with display, deferred() as signals:
        trained = trainer.run(_RunObserver(run, losses, logged, slider, display, states, state_every, signals))
    _log_result(run, config, data, trained)


def _load_state(trainer: Trainer, state: dict[str, Any], states: States) -> None:
    try:
        trainer.load_state_dict(state)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise PipelineError(
            f"the state in {states.folder} is not one of this training, or of another version of this program "
            f"({one_line(error)}); without that folder the training starts again"
        ) from error


def _warn_of_few_steps(config: Config, trainer: Trainer) -> None:
    # After this many steps, the initial value of a running statistic has a weight below 1 %.
    enough = math.ceil(math.log(0.01) / math.log1p(-config.bn_momentum)) if config.bn_momentum < 1 else 1
    if trainer.steps < enough and batch_norms(trainer.model):
        say(
            f"train: only {counted(trainer.steps, 'step')} in all; BatchNorm's running statistics need {enough} at "
            f"--bn-momentum {config.bn_momentum:g}: more --epochs or a smaller --batch-size will do much better"
        )


class _Slider:
    """The pictures for MLflow's step slider: the first test images, the same for all runs, which decide nothing."""

    def __init__(self, trainer: Trainer, test: Part, noise: Noise) -> None:
        self._trainer = trainer
        self._clean, self._noisy, _ = sample(test, noise, identity)
        self._trainer.model.eval()
        self.start = self.strip()  # before the first step

    @property
    def title(self) -> str:
        return "noisy - denoised" + ("" if self._clean is None else " - clean")

    @torch.no_grad()
    def strip(self) -> np.ndarray:
        """Rows of noisy, denoised and clean images, uint8 [H, W] or [H, W, 3]. The model must be in eval mode."""
        denoised = self._trainer.result(self._noisy.to(self._trainer.batches.device)).cpu()
        return figures.image_strip([self._noisy, denoised, *([] if self._clean is None else [self._clean])])


@dataclass
class _RunObserver(Observer):
    """Tells the run and the terminal how a training proceeds, and saves its states."""

    run: OpenRun
    losses: dict[str, str]  # the names of the metrics of the training and the validation loss
    logged: dict[str, set[int]]  # the steps of each of them that are logged, perhaps before an interruption
    slider: _Slider
    display: ProgressDisplay
    states: States
    state_every: float  # seconds
    signals: Deferred
    last_state: float = field(default_factory=time.perf_counter)

    def progress(self, position: Position) -> None:
        self.display.update(position)

    def point(self, point: Point) -> None:
        if point.images in self.logged[names.TRAIN]:
            return
        with self.run.together():
            if not self.logged[names.TRAIN]:
                self.run.log_image(self.slider.start, self.slider.title, 0)  # where MLflow's slider opens
            self.run.log_image(self.slider.strip(), self.slider.title, point.images)
            scores = {self.losses[names.TRAIN]: point.loss, names.LEARNING_RATE: point.learning_rate}
            self.run.log_metrics(scores, step=point.images)
        self.logged[names.TRAIN].add(point.images)

    def epoch(self, epoch: Epoch) -> None:
        self.display.epoch(epoch)
        if epoch.images not in self.logged[names.VALIDATION]:
            psnr = {} if epoch.validation_psnr is None else {names.VALIDATION_PSNR: epoch.validation_psnr}
            loss = {self.losses[names.VALIDATION]: epoch.validation_loss}
            scores = {**loss, **psnr, names.IMAGES_PER_SECOND: epoch.images_per_second}
            self.run.log_metrics(scores, step=epoch.images)

    def wants_state(self) -> bool:
        return self.signals.asked or time.perf_counter() - self.last_state > self.state_every

    def state(self, state: dict[str, Any]) -> None:
        self.states.save(state)
        self.last_state = time.perf_counter()
        self.signals.check()


def _log_start(run: OpenRun, config: Config, data: PreparedData, trainer: Trainer, team: Team) -> None:
    """Tell the run what it trains, on what and with what."""
    with run.together():
        log_dataset(run, data, config)
        run.log_params({names.PARAMETERS: count_parameters(trainer.model)})
        run.log_tags(
            {
                names.DEVICE: str(trainer.batches.device),
                names.PROCESSES: str(team.count),
                names.TORCH: torch.__version__,
                names.PRECISION: str(trainer.precision).split(".")[1],
            }
        )


def _log_result(run: OpenRun, config: Config, data: PreparedData, trained: Trained) -> None:
    """Tell the run all that came out of the training, at once."""
    best = trained.best
    checkpoint = Checkpoint(
        config.model, config.size, data.channels, best.epoch, best.validation_loss, best.state_dict, best.images
    )
    curves = figures.loss_curves(trained.points, trained.epochs, best.epoch, config.loss, config.target)
    with tempfile.TemporaryDirectory() as folder, run.together():
        path = Path(folder) / Path(names.CHECKPOINT).name
        checkpoint.save(path)
        run.log_file(path, str(Path(names.CHECKPOINT).parent))
        run.log_figure(curves, "loss", as_file(curves))
        run.log_metrics(
            {
                names.BEST_EPOCH: best.epoch,
                names.loss_metric(names.BEST, asdict(config)): best.validation_loss,
                **({} if best.validation_psnr is None else {names.BEST_PSNR: best.validation_psnr}),
                names.TRAIN_SECONDS: trained.seconds,
            }
        )
        run.log_fingerprint("train", _fingerprint(config, data.digest, run.tag(names.START_WEIGHTS) or ""))
        run.log_tags({names.WEIGHTS: checkpoint.digest})
