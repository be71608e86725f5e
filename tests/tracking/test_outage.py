"""The tracking server is slow, goes away, or breaks off uploads: training continues, and nothing is lost."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import HANG, Cli, Result, check_curve, environment, start, write_digits
from mlflow.entities import Run
from server import Proxy, Server
from warm import run_forked

from pipeline.tracking import names

EPOCHS = 8
LONG = 12
TRAIN = ("--dataset", "digits", "--batch-size", "8")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, digits: np.ndarray) -> Path:
    write_digits(tmp_path / "digits", digits[:1000])
    return tmp_path


class Training:
    """A command that trains, in a process of its own, in `folder`. What it prints is there, in `out` and `err`."""

    def __init__(self, folder: Path, uri: str, experiment: str, command: str = "run", epochs: int = EPOCHS) -> None:
        """Start it, and return when its first epoch is over."""
        name = ("--name", "small", "--allow-worse") if command == "run" else ()
        words = [command, *TRAIN, "--epochs", str(epochs), *name]
        variables = environment(MLFLOW_TRACKING_URI=uri, MLFLOW_EXPERIMENT_NAME=experiment)
        self._folder = folder
        self._process = start(run_forked, "pipeline", words, folder, variables, str(folder))
        self.wait_until_printed("epoch 1/")

    def wait_until_printed(self, text: str) -> None:
        out = self._folder / "out"
        while not (out.exists() and text in out.read_text()):
            assert self._process.is_alive(), (self._folder / "err").read_text()
            time.sleep(0.02)

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process.pid
        os.kill(self._process.pid, number)

    def end(self) -> Result:
        """Wait for its end."""
        self._process.join(HANG)
        assert self._process.exitcode is not None
        return Result(self._process.exitcode, *((self._folder / name).read_text() for name in ("out", "err")))


def the_run(server: Server, experiment: str) -> Run:
    client = mlflow.MlflowClient(server.uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    return run


def check_points(server: Server, run: Run, epochs: int = EPOCHS) -> None:
    """All are there in order, none lost, none twice."""
    client = mlflow.MlflowClient(server.uri)
    assert run.info.status == "FINISHED"
    curve = check_curve(client, run.info.run_id, epochs)
    images = [entry.path for entry in client.list_artifacts(run.info.run_id, names.IMAGES)]
    for kind in (r"\.png", r"\+compressed\.webp"):
        found = [
            int(number)
            for path in images
            for number in re.findall(rf"\+step\+(\d+)\+timestamp\+\d+\+[\w-]+{kind}$", path)
        ]
        assert sorted(found) == [0, *curve], kind  # the first is that before training
    assert run.inputs.dataset_inputs
    assert names.WEIGHTS in run.data.tags


def check_everything(server: Server, run: Run, folder: Path) -> None:
    check_points(server, run)
    client = mlflow.MlflowClient(server.uri)
    artifacts = {entry.path for entry in client.list_artifacts(run.info.run_id)}
    assert {names.CONFIG, names.EVALUATION, names.FIGURES, names.HANDOFF} <= artifacts
    assert run.data.tags[names.PARITY] == "passed"
    (model,) = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    assert model.status == "READY"
    assert run.data.tags[names.MODEL_ID] == model.model_id
    (folder / "copy").mkdir()
    copy = Path(client.download_artifacts(run.info.run_id, names.HANDOFF, str(folder / "copy")))
    handoff = folder / "artifacts" / "small"
    files = sorted(path.relative_to(handoff) for path in handoff.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(copy) for path in copy.rglob("*") if path.is_file())
    assert all((copy / name).read_bytes() == (handoff / name).read_bytes() for name in files)


def test_the_server_goes_away_and_comes_back(server: Server, folder: Path, cli: Cli) -> None:
    assert cli("prepare", "--dataset", "digits").code == 0
    training = Training(folder, server.uri, "back", "train", LONG)
    server.stop()
    training.wait_until_printed("epoch 4/")
    # However long a server takes to start on this machine: it is back while the training goes on.
    training.send_signal(signal.SIGSTOP)
    server.start()
    training.send_signal(signal.SIGCONT)
    done = training.end()
    assert (done.code, done.err) == (0, ""), done
    check_points(server, the_run(server, "back"), LONG)
    assert list((folder / "data" / "runs").iterdir()) == []


def test_the_server_goes_away_for_good_and_doctor_sends_what_is_left(server: Server, folder: Path, cli: Cli) -> None:
    training = Training(folder, server.uri, "good")
    server.stop()
    done = training.end()
    # The job is done, and the hand-off is there; what is missing is said last, and by the exit code.
    assert done.code == 4, done
    assert (folder / "artifacts" / "small" / "SHA256SUMS").is_file()
    last = done.err.splitlines()[-1]
    assert re.match(r"Tracking: \d+ of \d+ records? not sent, but kept in data/runs/\w{32}: .*doctor --fix", last)
    assert "Traceback" not in done.out + done.err

    # A group that was half-written, and a wrong count of what was sent: sending twice does no harm.
    (events,) = (folder / "data" / "runs").glob("*/events.jsonl")
    with events.open("a") as file:
        file.write('{"crc": 1, "eve')
    events.with_name("sent.bytes").write_text("9" * 9)
    server.start()
    done = cli("doctor", "--fix", MLFLOW_TRACKING_URI=server.uri)
    assert done.code == 0, done
    assert "fixed, sent" in done.out
    check_everything(server, the_run(server, "good"), folder)
    assert list((folder / "data" / "runs").iterdir()) == []


def test_an_artifact_that_is_refused_for_good_does_not_hold_up_the_rest(server: Server, folder: Path, cli: Cli) -> None:
    with Proxy(server, refuse=r"loss\.png") as proxy:
        environment = {"MLFLOW_TRACKING_URI": proxy.uri, "MLFLOW_EXPERIMENT_NAME": "refused"}
        assert cli("prepare", "--dataset", "digits").code == 0
        done = cli("train", *TRAIN, "--epochs", EPOCHS, **environment)
        assert done.code == 4, done
        assert re.search(r"Tracking: 1 of \d+ records not sent, but kept in data/runs/\w{32}: .* 413 .*", done.err)
        run = the_run(server, "refused")
        assert run.info.status == "FINISHED"
        check_curve(mlflow.MlflowClient(server.uri), run.info.run_id, EPOCHS)
        assert names.WEIGHTS not in run.data.tags  # which is in one group with the figure
        done = cli("doctor", "--fix", **environment)
        assert done.code == 1
        assert "not fixed, the store did not take them: the tracking store refused it: 413" in done.out
        assert the_run(server, "refused").info.status == "FINISHED"
    done = cli("doctor", "--fix", MLFLOW_TRACKING_URI=server.uri, MLFLOW_EXPERIMENT_NAME="refused")
    assert (done.code, done.err) == (0, ""), done
    check_points(server, the_run(server, "refused"))
    assert list((folder / "data" / "runs").iterdir()) == []


def test_training_does_not_wait_and_an_upload_that_breaks_off_is_repeated(server: Server, folder: Path) -> None:
    with Proxy(server, break_off=r"best\.pt|model\.onnx|\.webp", times=7) as proxy:
        training = Training(folder, proxy.uri, "slow")
        proxy.open.clear()
        time.sleep(0.5)
        answered = proxy.answered
        training.wait_until_printed(f"epoch {EPOCHS}/")
        assert proxy.answered == answered  # all that time
        proxy.open.set()
        done = training.end()
        assert (done.code, done.err) == (0, ""), done
        assert proxy.broken_off == 7
    check_everything(server, the_run(server, "slow"), folder)
