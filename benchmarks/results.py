"""Everything in the table of results, docs/results.md: trains what is not in the store yet, and prints Markdown.

    python benchmarks/results.py [--seeds 3] [--only REGEX]

Where there are several seeds a cell is their mean ± standard deviation (number of seeds).

A training that was finished and evaluated with the same options is taken from the store (`results.db` in the current
folder), so an interrupted call goes on where it stopped. All of it takes some hours on two cores.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

os.environ.setdefault("MLFLOW_TRACKING_URI", "sqlite:///results.db")

import mlflow
from mlflow.entities import Run

from pipeline.cli.commands import cli
from pipeline.cli.options import TRAIN
from pipeline.config import REFERENCE_VARIANCES, Config
from pipeline.files import read_json
from pipeline.tracking import names, store

LEVELS = [f"{variance:g}" for variance in REFERENCE_VARIANCES]
BLIND = ["--recipe", "best", "--variance", "0.0005:0.1"]
# Row of the table: the options of one model for all levels, or of one for each level (`{level}`); whether it is a
# headline row, with several seeds.
SMALL = ["--model", "resunet", "--size", "s", "--epochs", "4", "--variance", "{level}"]
ROWS: dict[str, tuple[list[str], bool]] = {
    "`autoencoder`, one for each level": (["--variance", "{level}"], True),
    "the same, `--recipe best`": (["--recipe", "best", "--variance", "{level}"], True),
    "`unet`, 4 epochs, one for each level": (["--model", "unet", "--epochs", "4", "--variance", "{level}"], False),
    "`resunet` m, one for each level": (["--model", "resunet", "--recipe", "best", "--variance", "{level}"], True),
    "`resunet` m, blind": (["--model", "resunet", *BLIND], True),
    "`resunet` l, blind": (["--model", "resunet", "--size", "l", *BLIND], False),
    "`resunet` s, 4 epochs, one for each level": (SMALL, False),
    "the same, `--target noisy2noisy`": ([*SMALL, "--target", "noisy2noisy"], False),
    "the same, `--target self`": ([*SMALL, "--target", "self"], False),
}
CLASSICAL = ("gaussian", "median", "wavelet", "tv", "nlm", "bm3d")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="of the headline rows; the others have one")
    parser.add_argument("--only", default="", help="train only the rows that this regular expression finds")
    arguments = parser.parse_args()

    if re.search(arguments.only, "baselines") and not _baselines():
        _pipeline("baselines")
    lines = [f"| | {' | '.join(LEVELS)} | parameters | training |", "|---|" + "---:|" * (len(LEVELS) + 2)]
    trained: list[str] = []
    for row, (options, headline) in ROWS.items():
        runs: dict[str, list[Run]] = {level: [] for level in LEVELS}
        for seed in range(arguments.seeds if headline else 1):
            for level in LEVELS:
                run = _trained([*_at(options, level), "--seed", str(seed)], bool(re.search(arguments.only, row)))
                runs[level] += [run] if run else []
        trained.append(_line(row, runs))
    example = next((run for run in _finished() if run.data.params.get("dataset") == "mnist"), None)
    if example:
        with tempfile.TemporaryDirectory() as folder:
            results = read_json(store.download(example.info.run_id, names.EVALUATION, folder))["results"]
        for name in ("noisy", "clipped"):
            cells = [f"{results[level][name]['psnr']:.2f}" for level in LEVELS]
            lines.append(f"| {name} input | {' | '.join(cells)} | | |")
    for name, run in _baselines().items():
        cells = [f"{run.data.metrics[names.noise_metric('psnr', level)]:.2f}" for level in LEVELS]
        lines.append(f"| {name} ({run.data.tags[names.TEST_IMAGES]} digits) | {' | '.join(cells)} | | |")
    print("\n".join(lines + trained))


def _at(options: Sequence[str], level: str) -> list[str]:
    return [option.replace("{level}", level) for option in options]


def _line(row: str, runs: dict[str, list[Run]]) -> str:
    cells = []
    for level, of_level in runs.items():
        values = [run.data.metrics[names.noise_metric("psnr", level)] for run in of_level]
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        count = f" ({len(values)})" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.2f}{spread}{count}" if values else "not run")
    everything = [run for of_level in runs.values() for run in of_level]
    if not everything:
        return f"| {row} | {' | '.join(cells)} | | |"
    seconds = statistics.median(run.data.metrics[names.TRAIN_SECONDS] for run in everything)
    return f"| {row} | {' | '.join(cells)} | {int(everything[0].data.params[names.PARAMETERS]):,} | {seconds:.0f} s |"


def _trained(options: list[str], train: bool) -> Run | None:
    """The finished and evaluated run with these options, trained now if `train` says so."""
    with cli.commands["train"].make_context("train", [*options]) as context:
        wanted = asdict(Config(**{name: context.params[name] for name in TRAIN}))
    for key in ("data_dir", "device"):  # decide nothing that is measured here
        del wanted[key]
    if (found := _find(wanted)) or not train:
        return found
    run_id = re.findall(r"^train: run (\w+)$", _pipeline("train", *options), re.MULTILINE)[0]
    _pipeline("evaluate", "--run-id", run_id)
    return _find(wanted)


def _find(wanted: dict[str, Any]) -> Run | None:
    for run in _finished():
        same = all(run.data.params.get(key) == str(value) for key, value in wanted.items())
        if same and names.noise_metric("psnr", LEVELS[0]) in run.data.metrics:
            return run
    return None


def _baselines() -> dict[str, Run]:
    found = {run.data.tags[names.MODEL]: run for run in _finished() if names.TEST_IMAGES in run.data.tags}
    return {name: found[name] for name in CLASSICAL if name in found}


def _finished() -> list[Run]:
    return list(
        mlflow.search_runs(search_all_experiments=True, filter_string="status = 'FINISHED'", output_format="list")
    )


def _pipeline(*arguments: str) -> str:
    print("$ python -m pipeline", *arguments, file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "pipeline", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout, file=sys.stderr, flush=True)
    return done.stdout


if __name__ == "__main__":
    main()
