"""How fast a folder of images is prepared, against a loop that only reads the files."""

from __future__ import annotations

import statistics
import tempfile
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.speed.timing import in_turn, ratio
from pipeline.config import Config
from pipeline.data.sources.photos import Photos
from pipeline.stages.prepare import prepare

FILES, SIDE, ROUNDS = 10_000, 256, 3


def table() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_files(folder / "images")
        config = Config(dataset=str(folder / "images"), data_dir=str(folder / "data"))
        sides = {
            "Pillow reads all files, one after the other": partial(_read, folder / "images"),
            "`prepare`": partial(_prepare, config, force=True),
            "`prepare` again, nothing changed": partial(_prepare, config, force=False),
        }
        times = in_turn(sides, ROUNDS)
    print(f"{FILES:,} PNG files of {SIDE}x{SIDE} with 8 bits of gray, median of {ROUNDS} rounds in turn:\n")
    print("| | seconds | speed, times that of the first |\n|---|---:|---:|")
    first = next(iter(times.values()))
    for label, seconds in times.items():
        print(f"| {label} | {statistics.median(seconds):.2f} | {ratio(first, seconds)} |")


def _write_files(folder: Path) -> None:
    """Pieces of photographs, each with noise of its own."""
    folder.mkdir()
    random = np.random.default_rng(0)
    photos = [image[0] for image in Photos(Path()).divide(1, folder).train.images if min(image.shape[1:]) > SIDE]
    for index in range(FILES):
        photo = photos[index % len(photos)]
        top, left = (int(random.integers(size - SIDE)) for size in photo.shape)
        noisy = photo[top : top + SIDE, left : left + SIDE] + random.normal(0, 5, (SIDE, SIDE))
        Image.fromarray(np.rint(noisy.clip(0, 255)).astype(np.uint8)).save(folder / f"{index:05}.png")


def _read(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            np.asarray(image)


def _prepare(config: Config, force: bool) -> None:
    with redirect_stdout(StringIO()):
        prepare(config, force)
