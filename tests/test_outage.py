"""The tracking server is slow, goes away, or breaks off: training does not mind, and nothing is lost."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import Cli, environment, write_digits
from mlflow.entities import Run
from server import Proxy, Server

EPOCHS = 8
RUN = ("run", "--dataset", "digits", "--epochs", str(EPOCHS), "--batch-size", "8", "--name", "small")
POINTS = ("train/loss", "validation/loss", "learning_rate", "images_per_second")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, digits: np.ndarray) -> Path:
    write_digits(tmp_path / "digits", digits[:1500])
    return tmp_path


def start(folder: Path, uri: str, experiment: str) -> subprocess.Popen[str]:
    """Start `run`, and return when its first epoch is over."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *RUN],
        cwd=folder,
        env=environment(MLFLOW_TRACKING_URI=uri, MLFLOW_EXPERIMENT_NAME=experiment, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch 1/" in line:
            return process
    raise AssertionError(process.stderr.read() if process.stderr else "")


def the_run(server: Server, experiment: str) -> Run:
    client = mlflow.MlflowClient(server.uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    return run


def check_everything_is_there(server: Server, run: Run) -> None:
    client = mlflow.MlflowClient(server.uri)
    assert run.info.status == "FINISHED"
    for name in POINTS:
        steps = [entry.step for entry in client.get_metric_history(run.info.run_id, name)]
        assert steps == list(range(1, EPOCHS + 1)), name  # in order, none lost, none twice
    images = [entry.path for entry in client.list_artifacts(run.info.run_id, "images")]
    found = [int(number) for path in images for number in re.findall(r"\+step\+(\d+)\+.*\.png", path)]
    assert sorted(found) == list(range(1, EPOCHS + 1))
    assert {"config.json", "test.json", "figures", "handoff"} <= {
        entry.path for entry in client.list_artifacts(run.info.run_id)
    }
    assert run.data.tags["parity"] == "passed"
    assert run.inputs.dataset_inputs
    (model,) = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    assert model.status == "READY"
    assert run.data.tags["model_id"] == model.model_id


def test_the_server_goes_away_and_comes_back(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with Server(tmp_path_factory.mktemp("server")) as server:
        process = start(folder, server.uri, "back")
        server.stop()
        time.sleep(3)
        server.start()
        out, err = process.communicate(timeout=200)
        assert (process.returncode, err) == (0, ""), (out, err)
        check_everything_is_there(server, the_run(server, "back"))
    assert list((folder / "data" / "runs").iterdir()) == []


def test_the_server_goes_away_for_good_and_doctor_sends_what_is_left(
    folder: Path, cli: Cli, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Server(tmp_path_factory.mktemp("server")) as server:
        process = start(folder, server.uri, "good")
        server.stop()
        out, err = process.communicate(timeout=200)
        # The job is done, and the hand-off is there; what is missing is said last, and by the exit code.
        assert process.returncode == 4, (out, err)
        assert (folder / "artifacts" / "small" / "SHA256SUMS").is_file()
        last = err.splitlines()[-1]
        assert re.match(
            r"Tracking: \d+ of \d+ records are not sent, and kept in data/runs/\w{32}: .*doctor --fix", last
        )
        assert "Traceback" not in out + err

        done = cli("doctor", MLFLOW_TRACKING_URI=server.uri)
        assert done.code == 1
        assert "store: cannot use the tracking store" in done.out
        assert "are not sent, and kept in data/runs" in done.out

        server.start()
        done = cli("doctor", MLFLOW_TRACKING_URI=server.uri)
        assert done.code == 1
        assert "is RUNNING, but its process is gone" in done.out
        done = cli("doctor", "--fix", MLFLOW_TRACKING_URI=server.uri)
        assert done.code == 0, done
        assert "mended, sent" in done.out
        check_everything_is_there(server, the_run(server, "good"))
        assert cli("doctor", MLFLOW_TRACKING_URI=server.uri).code == 0
    assert list((folder / "data" / "runs").iterdir()) == []


def test_training_does_not_wait_for_the_server(server: Server, folder: Path) -> None:
    with Proxy(server) as proxy:
        process = start(folder, proxy.uri, "slow")
        proxy.open.clear()
        time.sleep(0.5)
        answered = proxy.answered
        assert process.stdout is not None
        for line in process.stdout:
            if f"epoch {EPOCHS}/" in line:
                break
        assert proxy.answered == answered  # all that time
        proxy.open.set()
        out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, ""), (out, err)
    check_everything_is_there(server, the_run(server, "slow"))


def test_an_upload_that_breaks_off_is_repeated(server: Server, folder: Path) -> None:
    with Proxy(server, break_off=r"best\.pt|model\.onnx|\.webp", times=7) as proxy:
        process = start(folder, proxy.uri, "broken")
        out, err = process.communicate(timeout=300)
        assert (process.returncode, err) == (0, ""), (out, err)
        assert proxy.broken_off == 7
    run = the_run(server, "broken")
    check_everything_is_there(server, run)
    copy = mlflow.MlflowClient(server.uri).download_artifacts(run.info.run_id, "handoff/model.onnx", str(folder))
    assert Path(copy).read_bytes() == (folder / "artifacts" / "small" / "model.onnx").read_bytes()
