"""The training loop: images live on the device as they are stored, noise is drawn anew for every batch."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn

from pipeline.data.batches import EVALUATION_BATCH, Batch, Batches
from pipeline.data.images import MAX_PSNR
from pipeline.errors import PipelineError
from pipeline.models import Recipe, batch_norms
from pipeline.noise import Noise
from pipeline.training.augmentation import jitter_colors
from pipeline.training.devices import choose_precision
from pipeline.training.distributed import ALONE, Team
from pipeline.training.objectives import LOSSES, TARGETS
from pipeline.training.optimizers import OPTIMIZERS, SCHEDULES

POINTS = 10  # on the learning curve, at least; a long training has one per validated epoch
_VALIDATIONS = 50  # at most, about: with little data, an epoch takes no time
_REPORT_EVERY = 0.5  # seconds
_VALIDATION_NOISE_SEED = 1_000_003  # the same for every run, so that validation losses compare


def validated_every(epochs: int) -> int:
    """After how many epochs of a training of `epochs` the validation loss is computed; the last one always has it."""
    return max(1, epochs // _VALIDATIONS)


@dataclass(frozen=True)
class Position:
    """Where a training is inside an epoch."""

    epoch: int  # from 1
    images: int  # seen in this epoch
    loss: float  # mean so far in this epoch
    images_per_second: float  # in this epoch


@dataclass(frozen=True)
class Point:
    """A point on the learning curve."""

    images: int  # seen since training began
    loss: float  # mean since the previous point
    learning_rate: float


@dataclass(frozen=True)
class Epoch:
    """The results of one validated epoch. Losses are as in `LOSSES`, for pixels in [0, 1]."""

    epoch: int  # from 1
    images: int  # seen since training began
    train_loss: float  # mean over the epoch, while the weights change
    validation_loss: float  # in eval mode, with the same noise at every epoch of every run
    images_per_second: float  # of the training steps; validation is not counted
    is_best: bool  # lowest validation loss so far
    validation_psnr: float | None = None  # in dB, as in `Validation`


@dataclass(frozen=True)
class Best:
    """The best epoch by validation loss, and the weights at its end."""

    epoch: int
    validation_loss: float
    images: int  # seen since training began
    state_dict: dict[str, torch.Tensor]
    validation_psnr: float | None = None  # in dB, as in `Validation`


@dataclass(frozen=True)
class Validation:
    """How good the model is on the validation images."""

    loss: float  # what is minimised
    psnr: float | None  # in dB, the mean over the images, whatever is minimised; None: the clean images are not known


@dataclass(frozen=True)
class Trained:
    """The result of a training."""

    best: Best
    epochs: list[Epoch]
    points: list[Point]
    seconds: float  # spent training, interruptions not counted


class Observer:
    """Follows a training while it runs. A subclass overrides what it needs; each method here does nothing."""

    def progress(self, position: Position) -> None:
        """Called about twice per second, and at every point of the learning curve."""

    def point(self, point: Point) -> None:
        """Called at every point of the learning curve, with the model in eval mode."""

    def epoch(self, epoch: Epoch) -> None:
        """Called after every epoch that is validated, with the model in eval mode."""

    def wants_state(self) -> bool:
        """Whether to call `state` now. Asked after every step that does not end an epoch."""
        return False

    def state(self, state: dict[str, Any]) -> None:
        """Called after every epoch that is validated, and when `wants_state` says so, with `Trainer.state_dict()`.

        The next step changes the tensors in it. To stop the training, raise an exception here: nothing is lost.
        """


def _psnr(errors: torch.Tensor) -> torch.Tensor:
    """As `psnr_of_error`, without waiting for the device."""
    return -10 * errors.clamp(min=10 ** (-MAX_PSNR / 10)).log10()


class Trainer:
    """Trains a model to minimise a recipe's loss and keeps the best epoch by validation loss.

    The order of the images and the noise follow from `seed` and the number of the epoch alone. After
    `load_state_dict`, training continues bit for bit as if it had not been interrupted, on the same machine with the
    same number of threads.
    """

    def __init__(
        self,
        model: nn.Module,  # trained in place; already on the device of the images
        batches: Batches,  # the training images
        validation: Batch,  # on the device
        noise: Noise,
        recipe: Recipe,
        epochs: int,
        *,
        target: str = "clean",  # a key of TARGETS
        seed: int = 0,  # of the batch order and the noise
        team: Team = ALONE,  # the processes that train together; all of them make this trainer at the same time
        compiled: bool = False,  # train the network that torch.compile makes of the model
    ) -> None:
        for module in batch_norms(model):
            module.momentum = recipe.bn_momentum
        self.model = model.to(memory_format=torch.channels_last)  # about a fifth faster on CPU
        self._network = team.wrap(self.model, compiled)
        self.precision = choose_precision(recipe.precision, batches.device)
        self._recipe, self._count = recipe, epochs
        self._every = validated_every(epochs)
        self._seed, self._team, self._noise = seed, team, noise
        self.batches, self.validation = batches, validation
        self._draw_pair, self._reduce = TARGETS[target][0], LOSSES[recipe.loss][0]
        self._optimizer = OPTIMIZERS[recipe.optimizer][0](self.model.parameters(), recipe.lr, recipe.beta2)
        self._generator = torch.Generator(batches.device)

        steps_per_epoch = math.ceil(len(batches) / recipe.batch_size)
        points = min(math.ceil(POINTS / epochs), steps_per_epoch)  # per epoch
        self._point_steps = {number * steps_per_epoch // points for number in range(1, points + 1)}  # in an epoch
        self.steps = steps_per_epoch * epochs  # in the whole training

        self._average: AveragedModel | None = None
        if recipe.ema:
            self._average = AveragedModel(self.model, multi_avg_fn=self._into_average, use_buffers=True).eval()

        self._steps_done = 0
        self._best: Best | None = None
        self._epochs: list[Epoch] = []
        self._points: list[Point] = []
        self._began = time.perf_counter()  # earlier, where a training is resumed
        self._start_epoch(1)

    @property
    def result(self) -> nn.Module:
        """What the training has come to: the model, or the average of its weights if the recipe asks for it."""
        return self.model if self._average is None else self._average.module

    def _into_average(self, averages: PARAM_LIST, weights: PARAM_LIST, count: torch.Tensor | int) -> None:
        """The decay rises to that of the recipe, as in TensorFlow's `ExponentialMovingAverage` with `num_updates`.

        Else a training of fewer steps than it remembers would come to an average of untrained weights.
        """
        decay = min(self._recipe.ema, (1 + self._steps_done) / (10 + self._steps_done))
        get_ema_multi_avg_fn(decay)(averages, weights, count)

    def _start_epoch(self, epoch: int) -> None:
        self._epoch = epoch  # the current one, from 1
        self._seen = 0  # images, in this epoch
        self._total = torch.zeros((), device=self.batches.device)  # sum of their losses
        self._last_point = (0, 0.0)  # images and sum of losses at the last point of the learning curve

    def run(self, observer: Observer | None = None) -> Trained:
        """Train until the last epoch has ended.

        Raises:
            PipelineError: the loss is no longer a finite number.
        """
        observer = observer or Observer()
        while self._epoch <= self._count:
            images_per_second = self._train_epoch(observer)
            is_validated = self._is_validated()
            if is_validated:
                self._end_epoch(images_per_second, observer)
            self._start_epoch(self._epoch + 1)
            if is_validated:
                observer.state(self.state_dict())
        assert self._best is not None  # the last epoch is validated
        return Trained(self._best, self._epochs, self._points, time.perf_counter() - self._began)

    def _is_validated(self) -> bool:
        return self._epoch % self._every == 0 or self._epoch == self._count

    def _end_epoch(self, images_per_second: float, observer: Observer) -> None:
        found = self.validate()
        loss = found.loss
        self._check_finite("validation", loss)
        images, train_loss = self._epoch * len(self.batches), self._total.item() / len(self.batches)
        is_best = self._best is None or loss < self._best.validation_loss
        if is_best:
            self._best = Best(self._epoch, loss, images, copy.deepcopy(self.result.state_dict()), found.psnr)
        self._epochs.append(Epoch(self._epoch, images, train_loss, loss, images_per_second, is_best, found.psnr))
        observer.epoch(self._epochs[-1])

    def step(self, batch: Batch) -> None:
        """One step of the optimizer, on images as they are stored. The model is in train mode."""
        recipe, team, batch = self._recipe, self._team, batch.floats()
        if recipe.color_jitter and batch.clean is not None:
            batch = replace(batch, clean=jitter_colors(batch.clean, recipe.color_jitter, self._generator))
        pair = self._draw_pair(batch, self._noise, self._generator).part(team.share(len(batch)))
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.lr * SCHEDULES[recipe.schedule](self._steps_done / self.steps)
        with torch.autocast(self.batches.device.type, self.precision, enabled=self.precision != torch.float32):
            output = self._network(pair.input)
        loss = self._reduce(pair.errors(output.float())) if len(pair) else output.sum()
        self.model.zero_grad()
        # Gradients are averaged over processes, which may have more or fewer images than each other.
        (loss * (team.count * len(pair) / len(batch))).backward()
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.model)
        self._total += team.sum(loss.detach() * len(pair))
        self._seen += len(batch)
        self._steps_done += 1

    @torch.no_grad()
    def validate(self) -> Validation:
        """How good `result` is on the validation images. Leaves the model in eval mode.

        Computed in float32, because the model is handed off in float32. The PSNR is that of the output clipped to
        [0, 1], as on the test images.
        """
        self.model.eval()
        device = self.batches.device
        generator = torch.Generator(device).manual_seed(_VALIDATION_NOISE_SEED)
        totals = torch.zeros(2, device=device, dtype=torch.float64)  # of the losses and of the PSNRs
        for batch in self.validation.split(EVALUATION_BATCH):
            batch, share = batch.floats(), self._team.share(len(batch))
            pair = self._draw_pair(batch, self._noise, generator).part(share)
            if len(pair):
                output = self.result(pair.input)
                totals[0] += self._reduce(pair.errors(output)) * len(pair)
                if batch.clean is not None:
                    errors = pair.denoised(output, self.result).clamp(0, 1) - batch.clean[share]
                    totals[1] += _psnr(errors.square().mean(dim=(1, 2, 3))).sum()
        loss, psnr = (self._team.sum(totals) / len(self.validation)).tolist()
        return Validation(loss, None if self.validation.clean is None else psnr)

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the training depends on: tensors, numbers, texts, and lists and dicts of them."""
        return {
            "epoch": self._epoch,
            "seen": self._seen,
            "total": self._total,
            "before_point": self._last_point,
            "generator": self._generator.get_state(),
            "step": self._steps_done,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self._average.state_dict() if self._average else None,
            "best": vars(self._best) if self._best else None,
            "epochs": [*map(asdict, self._epochs)],
            "points": [*map(asdict, self._points)],
            "seconds": time.perf_counter() - self._began,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned, of a trainer made from the same arguments."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average:
            self._average.load_state_dict(state["average"])
        self._generator.set_state(state["generator"])
        self._steps_done = state["step"]
        self._best = Best(**state["best"]) if state["best"] else None
        self._epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self._points = [Point(**point) for point in state["points"]]
        self._began = time.perf_counter() - state["seconds"]
        self._start_epoch(state["epoch"])
        self._seen, self._last_point = state["seen"], tuple(state["before_point"])
        self._total += state["total"].to(self._total.device)

    def _train_epoch(self, observer: Observer) -> float:
        """Train on the images of this epoch that are not done yet, and return how many per second."""
        self.model.train()
        began = last_report = time.perf_counter()
        done_before = self._seen
        for batch in self._remaining_batches():
            self.step(batch)
            # Reading the loss waits for the device, so it is not read after every step.
            now = time.perf_counter()
            is_point = self._is_validated() and math.ceil(self._seen / self._recipe.batch_size) in self._point_steps
            if is_point or (self._team.rank == 0 and now - last_report > _REPORT_EVERY):
                last_report, total = now, self._total.item()
                self._check_finite("training", total)
                speed = (self._seen - done_before) / (now - began)
                observer.progress(Position(self._epoch, self._seen, total / self._seen, speed))
                if is_point:
                    self._add_point(observer, total)
            if self._seen < len(self.batches) and observer.wants_state():
                observer.state(self.state_dict())
        return (self._seen - done_before) / (time.perf_counter() - began)

    def _remaining_batches(self) -> Iterator[Batch]:
        """The batches of this epoch that are not done yet: all images once, in an order of this epoch's own."""
        state = self._generator.get_state()
        self._generator.manual_seed(self._seed * 100_003 + self._epoch)
        batches = self.batches.epoch(self._recipe.batch_size, self._generator)
        if self._seen:
            for _ in range(math.ceil(self._seen / self._recipe.batch_size)):
                next(batches)  # the first one draws the order
            self._generator.set_state(state)
        return batches

    def _add_point(self, observer: Observer, total: float) -> None:
        seen_before, total_before = self._last_point
        self._last_point = (self._seen, total)
        loss = (total - total_before) / (self._seen - seen_before)
        images = (self._epoch - 1) * len(self.batches) + self._seen
        self._points.append(Point(images, loss, self._optimizer.param_groups[0]["lr"]))
        self.model.eval()
        observer.point(self._points[-1])
        self.model.train()

    def _check_finite(self, kind: str, loss: float) -> None:
        if not math.isfinite(loss):
            raise PipelineError(
                f"training diverged: the {kind} loss is {loss} in epoch {self._epoch} after {self._seen:,} images, "
                f"at learning rate {self._optimizer.param_groups[0]['lr']:g}; try a lower --lr"
            )
