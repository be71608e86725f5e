"""Time to quality: the default recipe against the page's loop and recipe, and what each of its parts brings."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.speed.timing import in_processes, ratio, spread
from pipeline.config import Config
from pipeline.data.batches import WholeImages, validation_batch
from pipeline.data.prepared import PreparedData
from pipeline.models import COURSE_PAGE, MODELS, Recipe, batch_norms, build_model
from pipeline.noise import make_noise
from pipeline.scoring.metrics import psnr
from pipeline.scoring.score import model_denoiser, score
from pipeline.stages.prepare import prepare
from pipeline.stages.train import VALIDATION_IMAGES
from pipeline.training.devices import choose_device
from pipeline.training.loop import Epoch, Observer, Trainer

PAGE_EPOCHS, EPOCHS = 10, 1  # of the course page, and of the default recipe on MNIST
GOAL = 29.7  # dB, mean over the test digits: where the recipe of the course page ends
SEEDS = 3
NOISE = make_noise("gaussian", "0.01")
FAST = MODELS["autoencoder"].fast
# The default recipe, and what every part of it brings.
RECIPES: dict[str, Recipe] = {
    "the default recipe": FAST,
    "with Adam at 0.02, beta2 0.999": replace(FAST, optimizer="adam", lr=0.02, beta2=0.999),
    "with BatchNorm's momentum at the page's 0.01": replace(FAST, bn_momentum=COURSE_PAGE.bn_momentum),
    "with the PSNR loss": replace(FAST, loss="psnr"),
    "at a constant rate": replace(FAST, schedule="constant"),
    "at half the rate": replace(FAST, lr=FAST.lr / 2),
    "at twice the rate": replace(FAST, lr=FAST.lr * 2),
    "with batches half as large": replace(FAST, batch_size=FAST.batch_size // 2),
    "with batches twice as large": replace(FAST, batch_size=FAST.batch_size * 2),
    "in bfloat16": replace(FAST, precision="bfloat16"),
}


def test_psnr(model: nn.Module, data: PreparedData) -> float:
    scores = score(data.test, NOISE, {"model": model_denoiser(model, torch.device("cpu"))}, {"psnr": psnr})
    return float(scores["model"]["psnr"].mean())


def page(data: PreparedData, seed: int) -> tuple[float, float]:
    """Seconds and test PSNR of the page's own loop: torchvision's MNIST, DataLoader, ten epochs; the clean target."""
    torch.manual_seed(seed)
    loaders = [
        DataLoader(torchvision_mnist(np.asarray(part.images)), batch_size=64, shuffle=True)
        for part in (data.train, data.validation)
    ]
    model = build_model("autoencoder")
    for module in batch_norms(model):
        module.momentum = COURSE_PAGE.bn_momentum
    optimizer = torch.optim.Adam(model.parameters(), lr=COURSE_PAGE.lr)
    began = time.perf_counter()
    for _ in range(PAGE_EPOCHS):
        for training, loader in zip((True, False), loaders, strict=True):
            with torch.set_grad_enabled(training):
                total = 0.0
                for images, _labels in loader:
                    noisy = images + 0.1 * torch.randn(images.shape)
                    loss = functional.mse_loss(model(noisy), images)
                    total += loss.item()
                    if training:
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()
    return time.perf_counter() - began, test_psnr(model, data)


def torchvision_mnist(images: np.ndarray) -> torchvision.datasets.MNIST:
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        pixels = np.ascontiguousarray(images[:, 0])
        for name, header, content in (
            ("images-idx3", [0x803, *pixels.shape], pixels.tobytes()),
            ("labels-idx1", [0x801, len(pixels)], bytes(len(pixels))),
        ):
            for part in ("train", "t10k"):
                (Path(raw) / f"{part}-{name}-ubyte").write_bytes(
                    b"".join(number.to_bytes(4, "big") for number in header) + content
                )
        return torchvision.datasets.MNIST(folder, transform=torchvision.transforms.ToTensor())


class _Scores(Observer):
    """The test PSNR after every epoch, and the seconds of training until then."""

    def __init__(self, model: nn.Module, data: PreparedData) -> None:
        self.model, self.data = model, data
        self.seconds: list[float] = []
        self.psnrs: list[float] = []
        self._scoring = 0.0  # seconds that were not training
        self._began = time.perf_counter()

    def epoch(self, epoch: Epoch) -> None:
        self.seconds.append(time.perf_counter() - self._began - self._scoring)
        self.psnrs.append(test_psnr(self.model, self.data))
        self._scoring = time.perf_counter() - self._began - self.seconds[-1]


def ours(data: PreparedData, recipe: Recipe, seed: int) -> tuple[float, float, float]:
    """Seconds to the first epoch that ends at `GOAL` or above (infinite if none does), seconds and PSNR at the end."""
    choose_device("cpu")
    torch.manual_seed(seed)
    model = build_model("autoencoder")
    scores = _Scores(model, data)
    Trainer(
        model,
        WholeImages(data.train),
        validation_batch(data.validation, 0, VALIDATION_IMAGES, torch.device("cpu")),
        NOISE,
        recipe,
        EPOCHS,
        seed=seed,
    ).run(scores)
    reached = [second for second, value in zip(scores.seconds, scores.psnrs, strict=True) if value >= GOAL]
    return reached[0] if reached else float("inf"), scores.seconds[-1], scores.psnrs[-1]


def table() -> None:
    sides = ["the page", *RECIPES]
    measured = in_processes(__spec__.name, sides[:2], SEEDS)
    whole, final = zip(*measured["the page"], strict=True)
    reached, _, mine = zip(*measured["the default recipe"], strict=True)
    print(f"Seconds of training until the mean test PSNR is {GOAL} dB, {SEEDS} seeds, in turn:\n")
    print("| | seconds | test PSNR at the end | times as fast |\n|---|---:|---:|---:|")
    print(f"| the page's loop and recipe, to its tenth epoch | {statistics.median(whole):.1f} | {spread(final)} dB | |")
    print(
        f"| the default recipe ({FAST.images:,} images) | {statistics.median(reached):.1f} | {spread(mine)} dB | "
        f"{ratio(whole, reached)} |"
    )


def ablation() -> None:
    print(f"What each part of the default recipe brings: after {FAST.images:,} images, {SEEDS} seeds:\n")
    print("| | test PSNR in dB | seconds |\n|---|---:|---:|")
    for name, runs in in_processes(__spec__.name, list(RECIPES), SEEDS).items():
        _, seconds, psnrs = zip(*runs, strict=True)
        print(f"| {name} | {spread(psnrs)} | {statistics.median(seconds):.1f} |")


if __name__ == "__main__":
    side, seed = sys.argv[1], int(sys.argv[2])
    prepared = prepare(Config(data_dir=str(Path(tempfile.gettempdir()) / "benchmark-data")))
    print(*(page(prepared, seed) if side == "the page" else ours(prepared, RECIPES[side], seed)))
