"""How close the training loop comes to a bare step of torch, and that to what the machine can do."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.speed.timing import in_turn, ratio
from pipeline.data.batches import WholeImages, validation_batch
from pipeline.data.images import EIGHT_BITS, Part
from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.models import MODELS, build_model
from pipeline.models.facts import multiply_adds_per_pixel
from pipeline.noise import make_noise
from pipeline.training.devices import choose_device
from pipeline.training.loop import Trainer
from pipeline.training.objectives import LOSSES, Pair
from pipeline.training.optimizers import OPTIMIZERS

IMAGES, ROUNDS = 48_000, 5
FAST = MODELS["autoencoder"].fast
NOISE = make_noise("gaussian", "0.01")


def _loop(images: np.ndarray) -> None:
    """Train for one epoch and validate on one image."""
    part = Part(images)
    validation = validation_batch(part, 0, 1, torch.device("cpu"))
    Trainer(build_model("autoencoder"), WholeImages(part), validation, NOISE, FAST, epochs=1).run()


def _bare_step(images: np.ndarray, with_optimizer: bool = True) -> Callable[[], None]:
    """As many steps as in an epoch of `_loop`, on one batch in memory."""
    model = build_model("autoencoder").to(memory_format=torch.channels_last)
    optimizer = OPTIMIZERS[FAST.optimizer][0](model.parameters(), FAST.lr, FAST.beta2)
    clean = EIGHT_BITS.to_tensor(torch.from_numpy(images[: FAST.batch_size]))
    noisy = NOISE(clean, torch.Generator())

    def steps() -> None:
        for _ in range(len(images) // FAST.batch_size):
            loss = LOSSES[FAST.loss][0](Pair(noisy, clean).errors(model(noisy)))
            model.zero_grad()
            loss.backward()
            if with_optimizer:
                optimizer.step()

    return steps


def _peak() -> float:
    """The highest number of multiply-adds per second on this machine, in a product of two large matrices."""
    left, right = torch.rand(2048, 2048), torch.rand(2048, 2048)
    best = min(in_turn({"product": lambda: left @ right}, 10)["product"])
    return 2048**3 / best


def table() -> None:
    choose_device("cpu")
    images = BundledMNIST().images()[0][:IMAGES]
    sides = {
        "`train`": lambda: _loop(images),
        "the bare step: forward, backward, optimizer": _bare_step(images),
        "without the optimizer": _bare_step(images, with_optimizer=False),
    }
    times = in_turn(sides, ROUNDS)
    mine = times["`train`"]
    threads = torch.get_num_threads()
    print(f"The training loop, batches of {FAST.batch_size}, {threads} threads, {ROUNDS} rounds in turn:\n")
    print("| | images/s | speed of `train` by this one |\n|---|---:|---:|")
    for name, seconds in times.items():
        print(f"| {name} | {IMAGES / statistics.median(seconds):,.0f} | {ratio(seconds, mine)} |")
    # A step is three times the forward pass: the gradients of the weights and of the inputs cost as much again.
    limit = _peak() / (3 * multiply_adds_per_pixel(build_model("autoencoder"), 1) * 784)
    print(
        f"| the arithmetic of a step, at the speed of a 2048x2048 matrix product | {limit:,.0f} | "
        f"{IMAGES / statistics.median(mine) / limit:.2f} |"
    )
