"""--experiment and --tag: where a run is written to, and what a user notes on it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import Cli, run_module, write_digits

from pipeline.tracking import names

TRAIN = ("train", "--dataset", "digits", "--epochs", "1", "--batch-size", "16")


@pytest.fixture
def folder(cli: Cli, tmp_path: Path, digits: np.ndarray) -> Path:
    write_digits(tmp_path / "digits", digits[:40])
    assert cli("prepare", "--dataset", "digits").code == 0
    return tmp_path


def test_an_experiment_is_made_and_tags_are_logged_even_to_a_run_that_is_reused(cli: Cli, folder: Path) -> None:
    done = cli(*TRAIN, "--experiment", "my own", "--tag", "team=imaging; ticket=a=b", "--tag", "why=a first try")
    assert done.code == 0, done
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("my own")
    assert experiment
    assert client.search_runs(["0"]) == []
    (run,) = client.search_runs([experiment.experiment_id])
    assert {key: run.data.tags[key] for key in ("team", "ticket", "why")} == {
        **{"team": "imaging", "ticket": "a=b", "why": "a first try"}
    }
    done = cli(*TRAIN, "--tag", "checked=yes", MLFLOW_EXPERIMENT_NAME="my own")
    assert f"run {run.info.run_id}" in done.out, done
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["checked"] == "yes"


def test_a_tag_must_be_one_and_free(cli: Cli) -> None:
    for tag, said in {
        "team": "'team' is not a tag as KEY=VALUE",
        "=x": "'=x' is not a tag as KEY=VALUE",
        "quality=better": "'quality' is a name that this program or MLflow uses",
        "mlflow.user=me": "'mlflow.user' is a name that this program or MLflow uses",
    }.items():
        done = cli("train", "--tag", tag)
        assert (done.code, said in done.err) == (2, True), done


def test_a_run_of_mlflow_run_in_another_experiment_names_the_one_with_the_results(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # where a new store says that its artifacts are
    store = f"sqlite:///{folder / 'mlflow.db'}"
    client = mlflow.MlflowClient(store)
    made = client.create_run("0").info.run_id
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store, "MLFLOW_RUN_ID": made, "MLFLOW_EXPERIMENT_ID": "0"}
    done = run_module("pipeline", [*TRAIN, "--experiment", "other"], folder, environment)
    assert done.code == 0, done
    experiment = client.get_experiment_by_name("other")
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == re.findall(r"^train: run (\w+)$", done.out, re.MULTILINE)[0]
    assert client.get_run(made).data.tags[names.CONTINUES] == run.info.run_id
