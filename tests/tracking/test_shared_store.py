"""What others may have written to a shared store is used only where the command line would take it."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import Cli, write_digits

from pipeline.config import Config
from pipeline.tracking import names


def make_run(folder: Path, config: dict[str, object], **tags: str) -> str:
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
