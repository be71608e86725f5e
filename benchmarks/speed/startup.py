"""How long a command takes to begin."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from PIL import Image

from benchmarks.speed.timing import in_turn, ratio
from pipeline.data.sources.bundled_mnist import BundledMNIST

ROUNDS = 7
ROOT = Path(__file__).parents[2]


def table() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "digits").mkdir()
        for index, image in enumerate(BundledMNIST().images()[0][:70]):
            Image.fromarray(image[0]).save(folder / "digits" / f"{index}.png")
        train = ["-m", "pipeline", "train", "--dataset", "digits", "--epochs", "1", "--force"]
        commands = {
            '`python -c "import click"`': ["-c", "import click"],
            "`--help`": ["-m", "pipeline", "--help"],
            "`run --help`": ["-m", "pipeline", "run", "--help"],
            "a usage error": ["-m", "pipeline", "run", "--epochs", "many"],
            '`python -c "import torch, mlflow"`': ["-c", "import torch, mlflow"],
            "a training of one step, to its end": train,
        }
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
        run = partial(
            subprocess.run,
            cwd=folder,
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        run([sys.executable, "-m", "pipeline", "prepare", "--dataset", "digits"], check=True)
        run([sys.executable, *train], check=True)
        sides = {label: partial(run, [sys.executable, *command]) for label, command in commands.items()}
        times = in_turn(sides, ROUNDS)
    print(f"Start-up, median of {ROUNDS} rounds in turn:\n")
    print("| | seconds | times the first |\n|---|---:|---:|")
    first = next(iter(times.values()))
    for label, seconds in times.items():
        print(f"| {label} | {statistics.median(seconds):.2f} | {ratio(seconds, first)} |")
