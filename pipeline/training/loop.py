"""The training loop: images live on the device as uint8 tensors, noise is drawn anew for every batch."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pipeline.data.batches import EVALUATION_BATCH, Batches
from pipeline.data.images import to_images
from pipeline.errors import PipelineError
from pipeline.models import Recipe
from pipeline.noise import Noise
from pipeline.training.devices import choose_precision
from pipeline.training.distributed import ALONE, Team
from pipeline.training.objectives import LOSSES, TARGETS, image_errors
from pipeline.training.optimizers import OPTIMIZERS, Optimizer
from pipeline.training.schedules import SCHEDULES

POINTS = 10  # of the learning curve, at least; in a long training one an epoch
_VALIDATION_NOISE_SEED = 1_000_003  # the same for every run, so that validation losses compare


@dataclass(frozen=True)
class Progress:
    """Where the loop is, inside an epoch."""

    epoch: int  # from 1
    images: int  # seen in this epoch
    loss: float  # mean so far in this epoch
    images_per_second: float  # in this epoch


@dataclass(frozen=True)
class Point:
    """A point of the learning curve."""

    images: int  # seen since training began
    loss: float  # mean since the point before
    learning_rate: float


@dataclass(frozen=True)
class Epoch:
    """What an epoch ended with. Losses are what `LOSSES` says, for pixels in [0, 1]."""

    epoch: int  # from 1
    images: int  # seen since training began
    train_loss: float  # mean over the epoch, while the weights change
    validation_loss: float  # in eval mode, with the same noise at every epoch of every run
    images_per_second: float  # of the training steps, validation left out
    is_best: bool  # lowest validation loss so far


@dataclass(frozen=True)
class Best:
    """The best epoch by validation loss, and the weights that it ended with."""

    epoch: int
    validation_loss: float
    images: int  # seen since training began
    state_dict: dict[str, torch.Tensor]


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def _ignore(_: object) -> None:
    pass


def fit(
    model: nn.Module,  # trained in place; already on the device of the images
    train: Batches,
    validation: torch.Tensor,  # uint8 [M, C, H, W], on the device
    noise: Noise,
    *,
    recipe: Recipe,
    target: str,  # a key of TARGETS
    seed: int,  # of the batch order and the noise
    team: Team = ALONE,  # the processes that train together; all call this with the same arguments but callbacks
    compiled: bool = False,  # train on the network as torch.compile makes it
    on_progress: Callable[[Progress], None] = _ignore,  # about twice a second, and at every point
    on_point: Callable[[Point], None] = _ignore,  # at every point of the learning curve, with the model in eval mode
    on_epoch: Callable[[Epoch], None] = _ignore,  # after every epoch, with the model in eval mode
    on_state: Callable[[dict[str, Any]], None] | None = None,  # called with the training's state, after every epoch
    state_due: Callable[[], bool] = lambda: False,  # asked after every step: call `on_state` now?
    state: dict[str, Any] | None = None,  # where to go on, as `on_state` was given it
) -> Best:
    """Train `model` to minimise the recipe's loss, and return the best epoch's weights.

    The order of the images and the noise follow from `seed` and the epoch alone. What is done from a `state` on is bit
    for bit what would have been done without the interruption, on the same machine with as many threads.

    Raises:
        PipelineError: the loss is no longer a finite number.
    """
    device = train.device
    model.to(memory_format=torch.channels_last)  # about a fifth faster on CPU
    for module in batch_norms(model):
        module.momentum = recipe.bn_momentum
    network: nn.Module = torch.compile(model) if compiled else model  # type: ignore[assignment]
    network = team.wrap(network)  # with the same weights as `model`
    optimizer = OPTIMIZERS[recipe.optimizer][0](model.parameters(), recipe.lr, recipe.beta2)
    precision = choose_precision(recipe.precision, device)
    generator = torch.Generator(device)
    draw_pair, reduce = TARGETS[target][0], LOSSES[recipe.loss][0]
    epochs, batch_size = recipe.epochs, recipe.batch_size
    steps_an_epoch = math.ceil(len(train) / batch_size)
    steps = steps_an_epoch * epochs
    points = min(math.ceil(POINTS / epochs), steps_an_epoch)  # an epoch
    point_steps = {step * steps_an_epoch // points for step in range(1, points + 1)}  # of an epoch
    step, first, skip = 0, 1, 0
    best: Best | None = None
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, first, skip = state["step"], state["epoch"], state["seen"]
        best = Best(**state["best"]) if state["best"] else None

    def describe(epoch: int, seen: int, total: torch.Tensor) -> dict[str, Any]:
        return {
            "epoch": epoch,  # to go on in ...
            "seen": seen,  # ... after so many of its images
            "total": total,  # the sum of their losses
            "before_point": before_point,  # images and sum at the last point
            "generator": generator.get_state(),
            "step": step,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "best": vars(best) if best else None,
        }

    for epoch in range(first, epochs + 1):
        # Train on every image once, in a new order, with new noise.
        model.train()
        generator.manual_seed(seed * 100_003 + epoch)
        epoch_began = last_report = time.perf_counter()
        total, seen = torch.zeros((), device=device), 0
        before_point = (0, 0.0)
        batches = train.epoch(batch_size, generator)
        if state and skip:  # the order is drawn with the first batch
            for _ in range(math.ceil(skip / batch_size)):
                next(batches)
            generator.set_state(state["generator"])
            total, seen, skip = state["total"].to(device), skip, 0
            before_point = tuple(state["before_point"])
        for pixels in batches:
            pair = draw_pair(to_images(pixels), noise, generator).part(team.share(len(pixels)))
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * SCHEDULES[recipe.schedule](step / steps)
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                output = network(pair.noisy)
            own_loss = reduce(image_errors(output.float(), pair)) if len(output) else output.sum()
            model.zero_grad()
            # Processes may have more or fewer images; their gradients are averaged.
            (own_loss * (team.count * len(output) / len(pixels))).backward()
            optimizer.step()
            total += team.sum(own_loss.detach() * len(output))
            seen += len(pixels)
            step += 1

            # Reading the loss waits for the device, so it is read now and then only.
            now = time.perf_counter()
            is_point = math.ceil(seen / batch_size) in point_steps
            if is_point or (team.rank == 0 and now - last_report > 0.5):
                last_report, so_far = now, total.item()
                _check_finite(so_far, "training", epoch, seen, optimizer)
                on_progress(Progress(epoch, seen, so_far / seen, seen / (now - epoch_began)))
            if is_point:
                recent_loss = (so_far - before_point[1]) / (seen - before_point[0])
                before_point = (seen, so_far)
                model.eval()
                on_point(Point((epoch - 1) * len(train) + seen, recent_loss, optimizer.param_groups[0]["lr"]))
                model.train()
            if on_state and seen < len(train) and state_due():
                on_state(describe(epoch, seen, total))
        images_per_second = len(train) / (time.perf_counter() - epoch_began)

        # Validate, and keep the best.
        validation_loss = _validation_loss(model, validation, noise, target, recipe.loss, team)
        _check_finite(validation_loss, "validation", epoch, seen, optimizer)
        is_best = best is None or validation_loss < best.validation_loss
        if is_best:
            best = Best(epoch, validation_loss, epoch * len(train), copy.deepcopy(model.state_dict()))
        on_epoch(Epoch(epoch, epoch * len(train), so_far / len(train), validation_loss, images_per_second, is_best))
        if on_state:
            before_point = (0, 0.0)
            on_state(describe(epoch + 1, 0, torch.zeros(())))

    assert best is not None  # epochs >= 1
    return best


@torch.no_grad()
def _validation_loss(
    model: nn.Module, validation: torch.Tensor, noise: Noise, target: str, loss: str, team: Team
) -> float:
    """In float32: what is handed off computes in float32 too."""
    model.eval()
    generator = torch.Generator(validation.device).manual_seed(_VALIDATION_NOISE_SEED)
    total = torch.zeros((), device=validation.device, dtype=torch.float64)
    for pixels in validation.split(EVALUATION_BATCH):
        pair = TARGETS[target][0](to_images(pixels), noise, generator).part(team.share(len(pixels)))
        if len(pair.noisy):
            total += LOSSES[loss][0](image_errors(model(pair.noisy), pair)) * len(pair.noisy)
    return team.sum(total).item() / len(validation)


def _check_finite(loss: float, kind: str, epoch: int, seen: int, optimizer: Optimizer) -> None:
    if not math.isfinite(loss):
        raise PipelineError(
            f"training diverged: the {kind} loss is {loss} in epoch {epoch}, after {seen:,} images, "
            f"at learning rate {optimizer.param_groups[0]['lr']:g}; try a lower --lr"
        )
