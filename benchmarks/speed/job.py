"""The main job, as a user starts it: stage by stage, its peak memory, and what training costs besides training."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import mlflow

from pipeline.config import Config
from pipeline.stages import train as train_stage
from pipeline.stages.prepare import prepare
from pipeline.tracking import names
from pipeline.tracking.opening import start_run
from pipeline.tracking.spool import Spool
from pipeline.training.loop import Observer, Trained, Trainer

ROOT = Path(__file__).parents[2]
DEFAULT = Config()


def main_job() -> None:
    """`mlflow run . --env-manager local -P variance=0.01`, in a copy of the project."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        project.mkdir()
        for name in ("MLproject", "conda.yaml"):
            shutil.copy(ROOT / name, project)
        shutil.copytree(ROOT / "pipeline", project / "pipeline")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        began = last = time.perf_counter()
        stages: defaultdict[str, float] = defaultdict(float)
        with subprocess.Popen(
            [sys.executable, "-m", "mlflow", "run", ".", "--env-manager", "local", "-P", "variance=0.01"],
            cwd=project,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                # A stage prints when it ends, so that what went before is its time.
                now = time.perf_counter()
                stages[line.partition(":")[0]] += now - last
                last = now
        whole = time.perf_counter() - began
        assert process.returncode == 0
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # KiB on Linux
        (run,) = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}").search_runs(["0"])
    training = run.data.metrics[names.TRAIN_SECONDS]
    print("`mlflow run . --env-manager local -P variance=0.01`:\n")
    print("| | measured | goal |\n|---|---:|---:|")
    print(f"| `mlflow run` starts, the commands start, prepare | {stages['prepare']:.1f} s | |")
    print(f"| train | {stages['train']:.1f} s | |")
    print(f"| evaluate | {stages['evaluate']:.1f} s | |")
    print(f"| export, parity, hand-off | {stages['export']:.1f} s | |")
    print(f"| everything sent, `mlflow run` ends | {whole - sum(stages.values()) + stages['run']:.1f} s | |")
    print(f"| all | {whole:.1f} s | {1.5 * training + 20:.1f} s: 1.5 times the training's {training:.1f} s + 20 s |")
    print(f"| peak memory | {peak:.2f} GiB | |")
    print(f"| test PSNR | {run.data.metrics[names.noise_metric('psnr', '0.01')]:.2f} dB | |")


def overhead(config: Config = DEFAULT, long: float = 60.0) -> None:
    """Where the time of the `train` stage goes, besides training and validating.

    Args:
        config: of the training, which is then made again with as many epochs as it takes for
        long: so many seconds.
    """
    os.chdir(tempfile.mkdtemp())
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    prepare(config)
    training = _print_overhead(config)
    print()
    _print_overhead(replace(config, epochs=max(1, round(config.epochs * long / training))))


def _print_overhead(config: Config) -> float:
    """Train, and print a table; returns the seconds of training and validating alone."""
    spent: defaultdict[str, float] = defaultdict(float)

    def timed(function: Callable[..., Any], key: str, clock: Callable[[], float] = time.perf_counter) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            began = clock()
            try:
                return function(*arguments, **options)
            finally:
                spent[key] += clock() - began

        return call

    class TimedTrainer(Trainer):
        def run(self, observer: Observer | None = None) -> Trained:
            for name in ("progress", "point", "epoch", "state", "wants_state"):
                setattr(observer, name, timed(getattr(observer, name), name))
            return timed(super().run, "run")(observer)

    train_stage.find_trained(config)  # as `run` asks before
    with (
        mock.patch.object(train_stage, "Trainer", TimedTrainer),
        # A thread sends meanwhile: what that takes of a processor is not there for training where there is but one.
        mock.patch.object(Spool, "_work", timed(Spool._work, "sending", time.thread_time)),
        start_run(config) as run,
    ):
        began = time.perf_counter()
        train_stage.train(config, run, 60.0)
        whole = time.perf_counter() - began
    calls = spent["point"] + spent["epoch"] + spent["progress"] + spent["state"] + spent["wants_state"]
    training = spent["run"] - calls
    rows = {
        "learning curve and step slider": spent["point"] + spent["epoch"],
        "checkpoints": spent["state"] + spent["wants_state"],
        "progress": spent["progress"],
        "before and after: data verified, model built, figure drawn, best epoch kept": whole - spent["run"],
    }
    print(f"The `train` stage besides its training and validation of {training:.1f} s:\n")
    print("| | seconds | share |\n|---|---:|---:|")
    rows["all"] = sum(rows.values())
    rows["sent meanwhile by a thread, in seconds of a processor"] = spent["sending"]
    for name, seconds in rows.items():
        print(f"| {name} | {seconds:.2f} | {seconds / training:.1%} |")
    return training
