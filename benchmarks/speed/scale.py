"""More than one process: a sweep's jobs, torchrun; and how long a comparison of many runs takes."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlflow
from mlflow.entities import Metric, Param, RunTag
from PIL import Image

from benchmarks.speed.timing import ratio
from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.tracking import names

ROOT = Path(__file__).parents[2]
ROUNDS = 3
TRIALS = ("sweep", "--variance", "0.001;0.01;0.1", "--seeds", "2", "--batch-size", "16")
RUNS = 200


def sweep() -> None:
    """Six short trials, one at a time on all cores, and two at a time on half of them each."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for jobs, times in seconds.items():
            with tempfile.TemporaryDirectory() as folder:
                _write_digits(Path(folder), 1000)
                began = time.perf_counter()
                _pipeline(folder, *TRIALS, "--dataset", "digits", "--jobs", str(jobs))
                times.append(time.perf_counter() - began)
    one, two = (statistics.median(seconds[jobs]) for jobs in (1, 2))
    print(f"Six trials of 1,000 digits, `sweep --jobs 1` and `--jobs 2`, in turn, {ROUNDS} rounds:\n")
    print("| `--jobs 1` | `--jobs 2` | of that time | goal |\n|---:|---:|---:|---:|")
    print(f"| {one:.1f} s | {two:.1f} s | {ratio(seconds[2], seconds[1])} | 0.75 |")


def processes() -> None:
    """Images/s of one process with two threads, and of two processes with one each."""
    print(f"Training images/s, one process with two threads and two processes under torchrun, {ROUNDS} rounds:\n")
    print("| | one process | two | of that | goal |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        _write_digits(Path(folder), 8000)
        _pipeline(folder, "prepare", "--dataset", "digits")
        # On CPUs, a model with BatchNorm cannot be shared out.
        options = ("--dataset", "digits", "--model", "resunet", "--batch-size", "128", "--epochs", "2")
        speeds: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(ROUNDS):
            for count, found in speeds.items():
                _pipeline(folder, "train", *options, "--force", processes=count)
                (run,) = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").search_runs(["0"], max_results=1)
                found.append(run.data.metrics[names.IMAGES_PER_SECOND])
        one, two = (statistics.median(found) for found in speeds.values())
        print(f"| `resunet`, batches of 128 | {one:,.0f} | {two:,.0f} | {ratio(speeds[2], speeds[1])} | 0.85 |")


def compare() -> None:
    """`compare` on a store with many runs: copies of one, with other results."""
    with tempfile.TemporaryDirectory() as folder:
        _write_digits(Path(folder), 200)
        _pipeline(folder, "run", "--dataset", "digits", "--batch-size", "16")
        client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
        (run,) = client.search_runs(["0"])
        artifacts = Path(folder, "mlruns", "0", run.info.run_id, "artifacts")
        losses = client.get_metric_history(run.info.run_id, names.loss_metric(names.TRAIN, run.data.params))
        psnr = names.test_metric("psnr")
        for number in range(1, RUNS):
            metrics = {**run.data.metrics, psnr: run.data.metrics[psnr] + number / RUNS}
            copy = client.create_run("0", run_name=run.info.run_name)
            client.log_batch(
                copy.info.run_id,
                [*losses, *(Metric(name, value, run.info.start_time, 0) for name, value in metrics.items())],
                [Param(name, value) for name, value in {**run.data.params, "seed": str(number)}.items()],
                [RunTag(name, value) for name, value in run.data.tags.items() if not name.startswith("mlflow.")],
            )
            for name in (names.SAMPLES, names.EVALUATION):
                client.log_artifact(copy.info.run_id, str(artifacts / name))
            client.set_terminated(copy.info.run_id)
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            _pipeline(folder, "compare")
            times.append(time.perf_counter() - began)
    print(f"`compare` over {RUNS} runs, the whole command, {ROUNDS} times:\n\n| measured | goal |\n|---:|---:|")
    print(f"| {statistics.median(times):.1f} s ({min(times):.1f} to {max(times):.1f}) | 10 s |")


def _pipeline(folder: str, *arguments: str, processes: int = 1) -> None:
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "OMP_"))}
    command = [sys.executable, "-m", *(launcher if processes > 1 else []), "pipeline", *arguments]
    done = subprocess.run(
        command, cwd=folder, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done


def _write_digits(folder: Path, count: int) -> None:
    (folder / "digits").mkdir()
    for index, digit in enumerate(BundledMNIST().images()[0][:count, 0]):
        Image.fromarray(digit).save(folder / "digits" / f"{index:05}.png")
