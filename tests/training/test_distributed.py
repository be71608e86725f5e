"""torchrun: several processes train what one would, and if one dies, the job ends with one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import HANG, PROJECT, TRAIN_LOSS, VALIDATION_LOSS, Cli, Result, environment, write_digits
from mlflow.entities import Run

from pipeline.tracking import names

# Batches of 16 with a rest of 1: not every process has an image of it.
TRAIN = ("train", "--dataset", "digits", "--batch-size", "16", "--model", "resunet", "--size", "s")
EPOCHS = 20
SAME = (*TRAIN, "--precision", "float32", "--loss", "mse", "--epochs", str(EPOCHS))


@pytest.fixture
def folder(tmp_path: Path, digits: np.ndarray, cli: Cli) -> Path:
    write_digits(tmp_path / "digits", digits[:118])
    assert "prepare: digits: 81 training" in cli("prepare", "--dataset", "digits").out
    return tmp_path


def start(folder: Path, processes: int, *arguments: str) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [sys.executable, *launcher, *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def torchrun(folder: Path, processes: int, *arguments: str) -> Result:
    process = start(folder, processes, *arguments)
    out, err = process.communicate(timeout=HANG)
    return Result(process.returncode, out, err)


def newest(folder: Path) -> Run:
    return mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_runs(["0"])[0]


def losses(folder: Path, run: Run) -> list[float]:
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return [
        point.value
        for loss in (TRAIN_LOSS, VALIDATION_LOSS)
        for point in client.get_metric_history(run.info.run_id, loss)
    ]


def psnrs(folder: Path, run: Run) -> list[float]:
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return [point.value for point in client.get_metric_history(run.info.run_id, names.VALIDATION_PSNR)]


def of_rank(launcher: int, rank: int) -> int:
    """The process of this rank."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    for process in map(int, children):
        if f"RANK={rank}" in Path(f"/proc/{process}/environ").read_text().split("\0"):
            return process
    raise AssertionError(f"no process of rank {rank}")


def stop_after_an_epoch(process: subprocess.Popen[str], folder: Path, stop: Callable[[], None]) -> str:
    """Call `stop` in the middle of the training, and return what the processes printed on stderr."""
    while not list(folder.glob("data/runs/*/states/*.pt")):
        assert process.poll() is None
        time.sleep(0.05)
    stop()
    return process.communicate(timeout=HANG)[1]


def test_the_losses_are_those_of_one_process_also_after_a_signal(folder: Path, cli: Cli) -> None:
    assert cli(*SAME).code == 0
    alone = newest(folder)
    done = torchrun(folder, 2, "-m", "pipeline", *SAME, "--force")
    assert done.code == 0, done
    whole = newest(folder)
    assert (whole.info.status, whole.data.tags[names.PROCESSES]) == ("FINISHED", "2")
    np.testing.assert_allclose(losses(folder, whole), losses(folder, alone), rtol=1e-5, atol=1e-5)
    assert len(losses(folder, whole)) == 2 * EPOCHS
    np.testing.assert_allclose(psnrs(folder, whole), psnrs(folder, alone), rtol=0, atol=0.01)  # dB
    assert len(psnrs(folder, whole)) == EPOCHS

    # A signal keeps the state, and what goes on ends with the same weights.
    process = start(folder, 2, "-m", "pipeline", *SAME, "--force")
    err = stop_after_an_epoch(process, folder, process.terminate)
    stopped = newest(folder)
    assert (stopped.info.status, stopped.data.tags[names.RESUMABLE]) == ("KILLED", "true")
    assert (
        f"Stopped by SIGTERM; resume with: python -m pipeline train --resume {stopped.info.run_id}" in err.splitlines()
    )
    done = torchrun(folder, 2, "-m", "pipeline", "train", "--resume", stopped.info.run_id)
    assert done.code == 0, done
    assert newest(folder).data.tags[names.WEIGHTS] == whole.data.tags[names.WEIGHTS]
    assert losses(folder, newest(folder)) == losses(folder, whole)
    assert psnrs(folder, newest(folder)) == psnrs(folder, whole)
    assert len(mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_runs(["0"])) == 3


def test_one_that_dies_ends_the_job(folder: Path) -> None:
    process = start(folder, 2, "-m", "pipeline", *SAME, "--epochs", "200")
    err = stop_after_an_epoch(process, folder, lambda: os.kill(of_rank(process.pid, 1), signal.SIGKILL))
    run = newest(folder)
    resume = f"python -m pipeline train --resume {run.info.run_id}"
    said = f"Error: another of the 2 processes of this training has ended; resume with: {resume}"
    assert [line for line in err.splitlines() if line.startswith("Error")] == [said], err
    assert (process.returncode, run.info.status) == (1, "FAILED")
    assert list(folder.glob(f"data/runs/{run.info.run_id}/states/*.pt"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (*TRAIN, "--batch-size", "15"),
            "--batch-size 15 is not a multiple of 2, the number of processes that torchrun has started",
        ),
        (
            (*TRAIN, "--model", "autoencoder", "--size", ""),
            "several processes can train this model on GPUs only, because it has BatchNorm; on CPUs, start one process "
            "or choose a model without BatchNorm, such as --model resunet",
        ),
        (("evaluate",), "torchrun can start only the commands train and run"),
    ],
)
def test_what_processes_cannot_do_together(arguments: tuple[str, ...], message: str, tmp_path: Path, cli: Cli) -> None:
    """As torchrun starts process 0."""
    (tmp_path / "digits").mkdir()
    done = cli(*arguments, "--device", "cpu", TORCHELASTIC_RUN_ID="none", WORLD_SIZE="2", RANK="0")
    assert (done.code, done.err) == (2, f"Error: {message}\n")
    assert not (tmp_path / "mlflow.db").exists()


FOUR = """
from dataclasses import replace
import numpy as np
import torch
from pipeline.data.batches import Batch, WholeImages
from pipeline.data.images import Part
from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.training.distributed import ALONE, join
from pipeline.models import COURSE_PAGE, build_model
from pipeline.noise import make_noise
from pipeline.training.loop import Trainer

def losses(team):
    torch.manual_seed(0)
    trained = Trainer(
        build_model("resunet", "s"), WholeImages(Part(digits[:81])), Batch(torch.from_numpy(digits[81:])),
        make_noise("gaussian", "0.01"), replace(COURSE_PAGE, batch_size=16), 2, team=team,
    ).run()
    return [*(point.loss for point in trained.points), *(epoch.validation_loss for epoch in trained.epochs)]

digits = BundledMNIST().images()[1][:100].copy()
alone = losses(ALONE)
assert len(alone) == 2 * (5 + 1)
torch.manual_seed(0)
with join(torch.device("cpu")) as team:
    assert team.count == 4
    team.has_started = True
    np.testing.assert_allclose(losses(team), alone, rtol=1e-5, atol=1e-5)
"""


def test_four_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    (tmp_path / "check.py").write_text(FOUR)
    done = torchrun(PROJECT, 4, str(tmp_path / "check.py"))
    assert done.code == 0, done.err
