"""How cost grows with the number of training images, mapped from a file and beyond memory, and with their size."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.speed.timing import in_processes
from pipeline.config import Config
from pipeline.data.batches import training_batches, validation_batch
from pipeline.data.images import Part
from pipeline.data.prepared import load_prepared, write_prepared
from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.models import MODELS, build_model
from pipeline.noise import make_noise
from pipeline.training.devices import choose_device
from pipeline.training.loop import Observer, Position, Trainer

TIMES = (1, 10, 100)
SIDES = (28, 64, 128, 256)
SECONDS = 20.0  # of training
COUNT = 48_000
FAST = MODELS["autoencoder"].fast


class _EnoughError(Exception):
    pass


def _prepare(data_dir: Path, count: int, side: int) -> Config:
    """Prepare `count` training images of that side: MNIST's digits in the middle, repeated."""
    config = Config(data_dir=str(data_dir))
    digits = BundledMNIST().images()[0]
    if side > 28:
        margin = (side - 28) // 2
        digits = np.pad(digits[:4800], ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    part, few = Part(digits), np.arange(10)
    (data_dir / "prepared").mkdir(parents=True)
    parts = {"train": (part, np.arange(count) % len(digits)), "validation": (part, few), "test": (part, few)}
    write_prepared(config, parts, None, {})
    return config


class _StopWatch(Observer):
    """Ends the training after `SECONDS`, with its images/s."""

    def __init__(self, images_per_epoch: int) -> None:
        self.images_per_epoch, self.began, self.warm = images_per_epoch, 0.0, 0

    def progress(self, position: Position) -> None:
        images = (position.epoch - 1) * self.images_per_epoch + position.images
        if not self.began:  # what came before warms up
            self.began, self.warm = time.perf_counter(), images
        elif time.perf_counter() - self.began > SECONDS:
            raise _EnoughError((images - self.warm) / (time.perf_counter() - self.began))


def measure(config: Config) -> tuple[float, float, float]:
    """Images/s of the training loop, GiB of the training images, and GiB of memory that are the process's own."""
    choose_device("cpu")
    data, device = load_prepared(config), torch.device("cpu")
    trainer = Trainer(
        build_model("autoencoder"),
        training_batches(data.train, 0, device),
        validation_batch(data.validation, 0, 10, device),
        make_noise("gaussian", "0.01"),
        FAST,
        epochs=10_000,
    )
    try:
        trainer.run(_StopWatch(len(data.train)))
    except _EnoughError as enough:
        speed = float(enough.args[0])
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    assert isinstance(data.train.images, np.ndarray)
    return speed, data.train.images.nbytes / 2**30, int(status["RssAnon"].split()[0]) / 2**20


def table() -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    rows = [(COUNT * times, 28) for times in TIMES] + [(4_800, side) for side in SIDES]
    beyond = int(1.1 * memory) // 256**2
    if shutil.disk_usage(tempfile.gettempdir()).free > 1.5 * memory:
        rows.append((beyond, 256))
    print(f"Training, {SECONDS:.0f} s of each; {memory / 2**30:.0f} GiB of memory in the machine:\n")
    print("| images | size | GiB of images | memory of the process | images/s | megapixels/s |")
    print("|---:|---:|---:|---:|---:|---:|")
    for count, side in rows:
        with tempfile.TemporaryDirectory() as folder:
            _prepare(Path(folder) / "data", count, side)
            (((speed, size, own),),) = in_processes(__spec__.name, [folder], 1).values()
        print(
            f"| {count:,} | {side}x{side} | {size:.2f} | {own:.2f} GiB | {speed:,.0f} | {speed * side**2 / 1e6:.1f} |"
        )
    if len(rows) == len(TIMES) + len(SIDES):
        print(f"| {beyond:,} | 256x256 | not run: no room on the disk | | | |")


if __name__ == "__main__":
    print(*measure(Config(data_dir=str(Path(sys.argv[1]) / "data"))))
