"""The same network, digits, noise and batches, trained by others and by us; and files of the same kind, at work.

    pip install -e '.[test,bm3d,peers]'
    python -m benchmarks.peers [--only training|inference] [--epochs N] [--rounds N]
        [--careamics PYTHON] [--results FILE]

Prints Markdown tables. Each side runs in a process of its own, one after the other. Stopped, it goes on after the last
training if it is given the same file of results. CAREamics asks for another torch than this project: make an
environment with `pip install careamics`, and pass its interpreter. Takes 20 to 30 minutes a round on two idle cores.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers import inference
from benchmarks.peers.training import SIDES, lines
from benchmarks.speed.timing import ratio
from pipeline.config import Config
from pipeline.noise import make_noise
from pipeline.stages.prepare import prepare

PROJECT = Path(__file__).parents[2]
DIGITS = 48_000  # to train on
LEVELS = (29.0, 29.7)  # dB
OURS = "ours, the same optimizer"
FRAMEWORKS = {"Lightning": "lightning", "deepinv": "deepinv", "CAREamics": "careamics"}


def write_data(path: Path) -> None:
    """The digits of all sides: 48,000 to train on, 10,000 to score on with noise of variance 0.01 that stays."""
    data = prepare(Config(data_dir=str(path.parent)))
    clean = np.asarray(data.test.images)
    noisy = make_noise("gaussian", "0.01")(torch.from_numpy(clean) / 255, torch.Generator().manual_seed(0))
    np.savez(path, train=np.asarray(data.train.images), clean=clean, noisy=noisy.numpy())


def run(side: str, python: str, data: Path, epochs: int, seed: int, known: Path | None) -> dict[str, Any]:
    """What one training printed, now or before."""
    key = {"side": side, "epochs": epochs, "seed": seed}
    for line in known.read_text().splitlines() if known and known.exists() else []:
        if (found := json.loads(line))["training"] == key:
            return found["result"]
    command = [python, "-m", "benchmarks.peers.training", side, str(data), str(epochs), str(seed)]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, cwd=data.parent, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    if known:
        with known.open("a") as file:
            file.write(json.dumps({"training": key, "result": result}) + "\n")
    return result


def seconds_to(level: float, result: dict[str, Any]) -> float:
    """Seconds until this PSNR was first found; infinite if it was not."""
    return next((point["seconds"] for point in result["points"] if point["psnr"] >= level), math.inf)


def after(epochs: int, results: list[dict[str, Any]], key: str) -> list[float]:
    """What each training had after so many epochs, or in its end if it is shorter."""
    enough = (epochs - 0.01) * DIGITS  # CAREamics leaves a few out
    points = [one["points"] for one in results]
    return [next((at[key] for at in one if at["images"] >= enough), one[-1][key]) for one in points]


def an_epoch(results: list[dict[str, Any]], key: str) -> list[float]:
    """What each training took for an epoch, in the mean."""
    return [one["points"][-1][key] * DIGITS / one["points"][-1]["images"] for one in results]


def median(values: list[float], digits: int = 1) -> str:
    middle = statistics.median(values)
    return f"{middle:.{digits}f}" if math.isfinite(middle) else "not reached"


def training(epochs: int, rounds: int, careamics: str | None, known: Path | None) -> None:
    """Print the table of trainings."""
    pythons: dict[str, str | None] = dict.fromkeys(SIDES, sys.executable)
    for side, module in FRAMEWORKS.items():
        pythons[side] = sys.executable if importlib.util.find_spec(module) else None
    pythons["CAREamics"] = careamics or pythons["CAREamics"]
    results: dict[str, list[dict[str, Any]]] = {side: [] for side, python in pythons.items() if python}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "digits.npz"
        write_data(data)
        for seed in range(rounds):
            for side, found in results.items():
                found.append(run(side, pythons[side] or "", data, epochs, seed, known))
                print(f"{side}: {found[-1]['points'][-1]}", file=sys.stderr)

    print(
        f"The course page's network, variance 0.01, {epochs} epochs of {DIGITS:,} digits, rounds in turn: {rounds}.\n"
    )
    heads = [
        "",
        "seconds an epoch",
        "CPU seconds",
        "times ours, same optimizer",
        *(f"seconds to {db} dB" for db in LEVELS),
    ]
    heads += ["PSNR after 1", f"after {epochs}", "peak memory", "lines", "torch"]
    print(f"| {' | '.join(heads)} |\n|---{'|---:' * (len(heads) - 1)}|")
    for side in SIDES:
        if side not in results:
            print(f"| {side} | not run: not installed {'| ' * (len(heads) - 2)}|")
            continue
        found = results[side]
        per_epoch = [an_epoch(found, key) for key in ("seconds", "cpu")]
        mine = an_epoch(results[OURS], "seconds")
        psnrs = [after(count, found, "psnr") for count in (1, epochs)]
        cells = [side, *(median(values) for values in per_epoch), ratio(per_epoch[0], mine)]
        cells += [median([seconds_to(level, one) for one in found]) for level in LEVELS]
        cells += [median(values, 2) for values in psnrs]
        cells += [f"{statistics.median(one['memory'] for one in found) / 2**30:.2f} GiB", str(lines(side))]
        print(f"| {' | '.join([*cells, found[0]['torch']])} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("training", "inference"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--careamics", metavar="PYTHON", help="the interpreter of an environment with CAREamics")
    parser.add_argument("--results", type=Path, metavar="FILE", help="keep what every training printed in it")
    arguments = parser.parse_args()
    if arguments.only != "inference":
        training(arguments.epochs, arguments.rounds, arguments.careamics, arguments.results)
    if arguments.only != "training":
        inference.table()


if __name__ == "__main__":
    main()
