"""The training loop: images live on the device as one uint8 tensor, batches are slices, noise is drawn per batch."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from pipeline.errors import PipelineError
from pipeline.noise import Noise

EVALUATION_BATCH = 500  # images; larger batches gain nothing on CPU
_VALIDATION_NOISE_SEED = 1_000_003  # the same for every run, so that validation losses compare
_WARM_UP = 0.1  # share of the steps in which the linear schedule rises to its peak


def _linear(progress: float) -> float:
    if progress < _WARM_UP:
        return 0.04 + 0.96 * progress / _WARM_UP
    return (1 - progress) / (1 - _WARM_UP)


# The schedules that `--schedule` takes: the factor on the learning rate, given the share of all steps done.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": _linear,  # up to the peak, then down to zero
    "constant": lambda progress: 1.0,
}


@dataclass(frozen=True)
class Progress:
    """Where the loop is, inside an epoch."""

    epoch: int  # from 1
    images: int  # seen in this epoch
    loss: float  # mean so far in this epoch
    images_per_second: float  # in this epoch


@dataclass(frozen=True)
class Epoch:
    """What an epoch ended with. Losses are mean squared errors per pixel, on the [0, 1] scale."""

    epoch: int  # from 1
    train_loss: float  # mean over the epoch, while the weights change
    validation_loss: float  # in eval mode, with the same noise at every epoch of every run
    learning_rate: float  # at the end of the epoch
    images_per_second: float  # of the training steps, validation left out
    is_best: bool  # lowest validation loss so far


@dataclass(frozen=True)
class Best:
    """The best epoch by validation loss, and the weights that it ended with."""

    epoch: int
    validation_loss: float
    state_dict: dict[str, torch.Tensor]


def to_images(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [N, 1, H, W] in 0...255 to float32 of the same shape in [0, 1]."""
    return pixels.to(torch.float32).div_(255)


def fit(
    model: nn.Module,  # trained in place; already on `device`
    train: torch.Tensor,  # uint8 [N, 1, H, W], on `device`
    validation: torch.Tensor,  # uint8 [M, 1, H, W], on `device`
    noise: Noise,
    *,
    epochs: int,
    batch_size: int,
    lr: float,  # peak learning rate of Adam
    schedule: str,  # a key of SCHEDULES
    target: str,  # "clean"; or "noisy", the page's mistake: compare the output with its own input
    seed: int,  # of the batch order and the noise
    on_progress: Callable[[Progress], None],  # called about twice a second
    on_epoch: Callable[[Epoch], None],  # called after every epoch, with the model in eval mode
) -> Best:
    """Train `model` to minimise the mean squared error, and return the best epoch's weights.

    The order of the images and the noise follow from `seed` and the epoch alone.

    Raises:
        PipelineError: the loss is no longer a finite number.
    """
    device = train.device
    model.to(memory_format=torch.channels_last)  # about a fifth faster on CPU
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    generator = torch.Generator(device)
    steps = math.ceil(len(train) / batch_size) * epochs
    step = 0
    best: Best | None = None

    for epoch in range(1, epochs + 1):
        # Train on every image once, in a new order, with new noise.
        model.train()
        generator.manual_seed(seed * 100_003 + epoch)
        epoch_began = last_report = time.perf_counter()
        total, seen = torch.zeros((), device=device), 0
        for batch in torch.randperm(len(train), generator=generator, device=device).split(batch_size):
            clean = to_images(train[batch])
            noisy = noise(clean, generator)
            for group in optimizer.param_groups:
                group["lr"] = lr * SCHEDULES[schedule](step / steps)
            loss = functional.mse_loss(model(noisy), clean if target == "clean" else noisy)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(batch)
            seen += len(batch)
            step += 1

            # Reading the loss waits for the device, so it is read now and then only.
            now = time.perf_counter()
            if now - last_report > 0.5 or seen == len(train):
                last_report = now
                mean_loss = total.item() / seen
                _check_finite(mean_loss, "training", epoch, seen, optimizer)
                on_progress(Progress(epoch, seen, mean_loss, seen / (now - epoch_began)))
        images_per_second = len(train) / (time.perf_counter() - epoch_began)

        # Validate, and keep the best.
        validation_loss = _validation_loss(model, validation, noise, target)
        _check_finite(validation_loss, "validation", epoch, seen, optimizer)
        is_best = best is None or validation_loss < best.validation_loss
        if is_best:
            best = Best(epoch, validation_loss, copy.deepcopy(model.state_dict()))
        on_epoch(Epoch(epoch, mean_loss, validation_loss, optimizer.param_groups[0]["lr"], images_per_second, is_best))

    assert best is not None  # epochs >= 1
    return best


@torch.no_grad()
def _validation_loss(model: nn.Module, validation: torch.Tensor, noise: Noise, target: str) -> float:
    model.eval()
    generator = torch.Generator(validation.device).manual_seed(_VALIDATION_NOISE_SEED)
    total = torch.zeros((), device=validation.device, dtype=torch.float64)
    for pixels in validation.split(EVALUATION_BATCH):
        clean = to_images(pixels)
        noisy = noise(clean, generator)
        loss = functional.mse_loss(model(noisy), clean if target == "clean" else noisy)
        total += loss * len(pixels)
    return total.item() / len(validation)


def _check_finite(loss: float, kind: str, epoch: int, seen: int, optimizer: torch.optim.Optimizer) -> None:
    if not math.isfinite(loss):
        raise PipelineError(
            f"training diverged: the {kind} loss is {loss} in epoch {epoch}, after {seen:,} images, "
            f"at learning rate {optimizer.param_groups[0]['lr']:g}; try a lower --lr"
        )
