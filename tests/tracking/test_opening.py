"""A run that is over, or of another experiment, is not written to because MLFLOW_RUN_ID names it."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import Cli, write_digits

PREPARE = ("prepare", "--dataset", "digits")  # which logs what it did to the run that `mlflow run` has made for it


@pytest.fixture
def client(tmp_path: Path, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    write_digits(tmp_path / "digits", digits[:50])
    monkeypatch.chdir(tmp_path)  # where MLflow keeps artifacts
    return mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_a_finished_run_is_not_written_to(client: mlflow.MlflowClient, cli: Cli) -> None:
    run_id = client.create_run(client.create_experiment("theirs")).info.run_id
    client.set_terminated(run_id, "FINISHED")
    before = client.get_run(run_id).to_dictionary()
    for command in (PREPARE, ("train", "--epochs", "none")):
        done = cli(*command, MLFLOW_RUN_ID=run_id)
        assert (done.code, len(done.err.splitlines())) == (2, 1), done
        assert client.get_run(run_id).to_dictionary() == before


def test_a_run_of_another_experiment_is_not_written_to(client: mlflow.MlflowClient, cli: Cli) -> None:
    run_id = client.create_run(client.create_experiment("theirs")).info.run_id
    client.create_experiment("ours")
    before = client.get_run(run_id).to_dictionary()
    done = cli(*PREPARE, MLFLOW_RUN_ID=run_id, MLFLOW_EXPERIMENT_NAME="ours")
    assert (done.code, len(done.err.splitlines())) == (2, 1), done
    assert f"MLFLOW_RUN_ID: run {run_id} is not in the experiment that the environment names" in done.err
    assert client.get_run(run_id).to_dictionary() == before
