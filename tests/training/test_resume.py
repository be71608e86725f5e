"""A training that is killed and resumed is, bit for bit, the one that was never interrupted."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import (
    HANG,
    PROJECT,
    TRAIN_LOSS,
    VALIDATION_LOSS,
    Cli,
    check_curve,
    environment,
    kill_while_training,
    start,
    write_digits,
)
from mlflow.entities import Run
from warm import run_forked

from pipeline.tracking import names
from pipeline.training.checkpoint import Checkpoint

EPOCHS = 3
TRAIN = ("train", "--dataset", "digits", "--epochs", str(EPOCHS), "--batch-size", "8", "--checkpoint-every", "0.1")
SAME = (TRAIN_LOSS, VALIDATION_LOSS, names.VALIDATION_PSNR, names.LEARNING_RATE)  # the other metrics are times


def runs(folder: Path) -> list[Run]:
    return list(mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_runs(["0"]))


def histories(folder: Path, run: Run) -> dict[str, list[tuple[int, float]]]:
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return {
        name: [(entry.step, entry.value) for entry in client.get_metric_history(run.info.run_id, name)] for name in SAME
    }


def weights(run: Run) -> str:
    path = Path(run.info.artifact_uri.removeprefix("file://")) / names.CHECKPOINT
    checkpoint = Checkpoint.load(path)
    assert checkpoint.digest == run.data.tags[names.WEIGHTS]
    return checkpoint.digest


@pytest.fixture
def folder(tmp_path: Path, digits: np.ndarray, cli: Cli) -> Path:
    write_digits(tmp_path / "digits", digits[:1000])
    assert cli("prepare", "--dataset", "digits").code == 0
    return tmp_path


def test_killed_and_resumed_it_is_the_same_training(folder: Path, cli: Cli) -> None:
    done = cli(*TRAIN)
    assert done.code == 0, done
    (untouched,) = runs(folder)

    assert kill_while_training(folder, *TRAIN, "--force", seconds=0) == -signal.SIGKILL
    killed = runs(folder)[0]
    environment = folder / "mlruns" / "0" / killed.info.run_id / "artifacts" / names.ENVIRONMENT
    environment.unlink(missing_ok=True)  # as if the kill had come before it was logged
    states = folder / "data" / "runs" / killed.info.run_id / "states"
    newest = max(states.glob("*.pt"))
    damaged = states / f"999999-{newest.name.split('-', 1)[1]}"
    damaged.write_bytes(newest.read_bytes()[:-100])
    done = cli("train", "--resume", killed.info.run_id)
    assert done.code == 0, done
    assert f"{damaged.name} is damaged; using the state before it" in done.err
    epoch, images, _ = newest.name.split("-")
    after = f" after {int(images):,} images of it" if int(images) else ""
    assert f"train: resuming with epoch {int(epoch)}{after}\n" in done.out

    resumed = next(run for run in runs(folder) if run.info.run_id == killed.info.run_id)
    assert resumed.info.status == "FINISHED"
    assert environment.is_file()
    assert weights(resumed) == weights(untouched)
    assert histories(folder, resumed) == histories(folder, untouched)
    check_curve(mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}"), resumed.info.run_id, EPOCHS)
    assert list((folder / "data" / "runs").iterdir()) == []
    check_printed(folder, killed.info.run_id, "train: ")

    done = cli("train", "--resume", killed.info.run_id)
    assert (done.code, done.err) == (2, f"Error: --resume {killed.info.run_id}: that run is finished\n")


def test_a_signal_ends_the_step_and_the_run_goes_on_from_there(folder: Path, cli: Cli) -> None:
    # Only the signal saves a state inside an epoch.
    run = ("run", *TRAIN[1:-1], "1e9", "--name", "small", "--allow-worse")
    assert kill_while_training(folder, *run, seconds=0, number=signal.SIGTERM) == 143
    (stopped,) = runs(folder)
    assert stopped.info.status == "KILLED"
    assert stopped.data.tags[names.INTERRUPTED] == "by SIGTERM"
    assert stopped.data.tags[names.RESUMABLE] == "true"
    run_id = stopped.info.run_id

    # An option that contradicts the run is refused, and the run can still be resumed.
    done = cli("run", "--resume", run_id, "--epochs", 9)
    assert done.code == 2
    assert f"--epochs 9: run {run_id} was started with --epochs {EPOCHS}" in done.err
    done = cli("run", "--resume", run_id, "--batch-size", 64)  # the default, but typed
    assert f"--batch-size 64: run {run_id} was started with --batch-size 8" in done.err
    done = cli("run", "--resume", "true")
    assert done.code == 2
    assert "--resume true works only under `mlflow run . --run-id RUN_ID -P resume=true`" in done.err
    done = cli("run", "--resume", run_id, "--name", "small", "--allow-worse")
    assert done.code == 0, done
    found = re.search(r"train: resuming with epoch \d+(?: after ([\d,]+) images of it)?\n", done.out)
    assert found, done.out
    assert int((found[1] or "0").replace(",", "")) % 8 == 0
    (finished,) = runs(folder)
    assert finished.info.status == "FINISHED"
    assert finished.data.tags[names.RESUMABLE] == "false"
    assert finished.data.tags[names.PARITY] == "passed"
    assert (folder / "artifacts" / "small" / "model.onnx").is_file()
    check_printed(folder, run_id, "Stopped by SIGTERM")
    assert not finished.data.tags[names.NOTE].startswith("Killed")


def check_printed(folder: Path, run_id: str, last: str) -> None:
    """What two processes printed is kept, one behind the other; with this, the first one ended."""
    lines = (folder / "mlruns" / "0" / run_id / "artifacts" / names.CONSOLE).read_text().splitlines()
    first, second = (number for number, line in enumerate(lines) if "$ python -m pipeline" in line)
    assert first == 0
    assert lines[second - 1].startswith(last)
    assert "--resume" in lines[second]
    assert any(line.startswith("train: resuming with epoch ") for line in lines[second:])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_second_signal_stops_at_once(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """During a long step. Two signals from one Ctrl-C count as one."""
    program = f"""
import os, sys, time
sys.path.insert(0, {str(PROJECT)!r})
from pipeline.signals import Stopped, deferred, install
install()
try:
    with deferred() as signals:
        os.kill(os.getpid(), {number:d})
        os.kill(os.getpid(), {signal.SIGTERM:d})
        print("asked", signals.asked, flush=True)
        time.sleep(1.1)
        os.kill(os.getpid(), {number:d})
        print("never", flush=True)
except Stopped as stopped:
    sys.exit(128 + stopped.number)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=HANG)
    assert (done.returncode, done.stdout, done.stderr) == (code, "asked True\n", "")


def test_nobody_else_may_train_the_same_run(folder: Path, cli: Cli) -> None:
    process = start(run_forked, "pipeline", [*TRAIN, "--epochs", "100000"], folder, environment(), folder)
    try:
        while not list((folder / "data").glob("runs/*/states/*.pt")):
            assert process.is_alive(), (folder / "err").read_text()
            time.sleep(0.05)
        (running,) = runs(folder)
        done = cli("train", "--resume", running.info.run_id)
        assert done.code == 1
        assert done.err == f"Error: run {running.info.run_id} is in use by another process\n"
    finally:
        process.kill()
        process.join()
