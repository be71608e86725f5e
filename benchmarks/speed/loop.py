"""How close the training loop comes to a bare step of torch, and that to what the machine can do."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.speed.timing import in_turn, ratio
from pipeline.data.batches import WholeImages
from pipeline.data.images import to_images
from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.models import MODELS, build_model
from pipeline.models.facts import multiply_adds_per_pixel
from pipeline.noise import make_noise
from pipeline.training.devices import choose_device
from pipeline.training.loop import Trainer
from pipeline.training.objectives import LOSSES, Pair, image_errors
from pipeline.training.optimizers import OPTIMIZERS

IMAGES, ROUNDS = 48_000, 5
FAST = MODELS["autoencoder"].fast
NOISE = make_noise("gaussian", "0.01")


def _loop(pixels: torch.Tensor) -> None:
    """Train for one epoch and validate on one image."""
    Trainer(build_model("autoencoder"), WholeImages(pixels), pixels[:1], NOISE, replace(FAST, epochs=1)).run()


def _bare_step(pixels: torch.Tensor, with_optimizer: bool = True) -> Callable[[], None]:
    """As many steps as in an epoch of `_loop`, on one batch in memory."""
    model = build_model("autoencoder").to(memory_format=torch.channels_last)
    optimizer = OPTIMIZERS[FAST.optimizer][0](model.parameters(), FAST.lr, FAST.beta2)
    clean = to_images(pixels[: FAST.batch_size])
    noisy = NOISE(clean, torch.Generator())

    def steps() -> None:
        for _ in range(len(pixels) // FAST.batch_size):
            loss = LOSSES[FAST.loss][0](image_errors(model(noisy), Pair(noisy, clean)))
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
    images = BundledMNIST().images()[0]
    pixels = torch.from_numpy(images[:IMAGES])
    sides = {
        "`train`": lambda: _loop(pixels),
        "the bare step: forward, backward, optimizer": _bare_step(pixels),
        "without the optimizer": _bare_step(pixels, with_optimizer=False),
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
