"""What others may have written to a shared store is used only where the command line would take it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import Cli, write_digits

from pipeline.config import Config
from pipeline.tracking import names


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first experiment of a store, which MLflow makes, then keeps its artifacts."""
    monkeypatch.chdir(tmp_path)


def make_run(folder: Path, config: Mapping[str, object], **tags: str) -> str:
    """A run in the store of a folder, with such a config."""
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    if client.get_experiment_by_name("shared") is None:
        client.create_experiment("shared", artifact_location=(folder / "shared").as_uri())
    experiment = client.get_experiment_by_name("shared")
    assert experiment
    run_id = client.create_run(experiment.experiment_id, tags=tags).info.run_id
    client.log_text(run_id, json.dumps({**json.loads(Config().to_json()), **config}), names.CONFIG)
    return run_id


@pytest.mark.parametrize("config", [{"size": "/../../../x"}, {"model": "../../x"}])
def test_a_config_that_names_a_place_elsewhere_is_refused(tmp_path: Path, cli: Cli, config: dict[str, object]) -> None:
    run_id = make_run(tmp_path, config)
    before = sorted(tmp_path.rglob("*"))
    done = cli("export", "--run-id", run_id, MLFLOW_EXPERIMENT_NAME="shared")
    assert done.code == 1
    assert done.err.startswith(f"Error: run {run_id}: its config.json cannot be used: ")
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and "mlflow.db" not in path.name] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "../../x"}, "'../../x' is not made of letters, digits, '.', '_' and '-' only"),
        ({"min_gain": "nan"}, "'nan' is not a number from 0 to 100"),
        ({"data_dir": "/"}, "option: 'data_dir' is not known"),
        ({"name": 3}, "expected string"),
        ([], "object has no attribute"),
    ],
)
def test_the_options_that_a_run_was_started_with_too(
    tmp_path: Path, cli: Cli, digits: np.ndarray, options: object, message: str
) -> None:
    write_digits(tmp_path / "digits", digits[:20])
    config = {"dataset": "digits", "noise": "gaussian"}
    run_id = make_run(tmp_path, config, **{names.HANDOFF_OPTIONS: json.dumps(options)})
    done = cli("run", "--resume", run_id, MLFLOW_EXPERIMENT_NAME="shared")
    assert done.code == 1, done
    assert f"run {run_id}: its tag {names.HANDOFF_OPTIONS} cannot be used: " in done.err
    assert message in done.err
    assert not (tmp_path / "artifacts").exists()


def test_names_of_any_kind_can_be_compared(tmp_path: Path, cli: Cli) -> None:
    name = "$\\foo$ \x1b]0;owned\x07\x1b[31mred|pipe\nError: no \u202e"
    make_evaluated_run(tmp_path, name=name, model="$\\foo$")
    make_evaluated_run(tmp_path, name="_other", model="_other\x1b[31m", dataset="$\\foo$\nError: no")
    make_evaluated_run(tmp_path, name="odd", parameters="1" * 5000)
    done = cli("compare", MLFLOW_EXPERIMENT_NAME="shared")
    assert done.code == 0, done
    assert [letter for letter in done.out + done.err if not letter.isprintable() and letter != "\n"] == []
    assert [line for line in (done.out + done.err).splitlines() if line.startswith("Error")] == []
    assert r"| $\foo$ \x1b]0;owned\x07\x1b[31mred\|pipe\nError: no \u202e |" in done.out
    (page,) = (tmp_path / "comparison").iterdir()
    assert page.read_text().count("<svg") == 2  # the learning curves


def make_evaluated_run(
    folder: Path, name: str, model: str = "unet", dataset: str = "mnist", parameters: str = "1000"
) -> None:
    """A finished run with scores in the store of a folder, whose names are anybody's."""
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    tags = {names.WEIGHTS: "w", names.MODEL: model, names.DATASET: dataset, names.DATASET_SHA256: dataset[:4]}
    run_id = make_run(folder, {}, **tags, **{names.RUN_NAME: name})
    for key, value in {**json.loads(Config(model="unet").to_json()), names.PARAMETERS: parameters}.items():
        client.log_param(run_id, key, value)
    client.log_metric(run_id, names.TRAIN_SECONDS, 1)
    client.log_metric(run_id, names.FORMER_LOSSES[names.TRAIN], 1)
    for metric in ("psnr", "ssim"):
        for label in ("0.001", "0.01", "0.1"):
            client.log_metric(run_id, names.noise_metric(metric, label), 1)
    client.set_terminated(run_id)
