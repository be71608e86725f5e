"""A run whose config, in a store that others write to, names a class: a program, which nothing here may start."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from conftest import Cli, run_cli, write_digits
from test_shared_store import make_run

from pipeline.config import Config
from pipeline.data.prepared import load_prepared
from pipeline.models.facts import multiply_adds_of
from pipeline.tracking import names
from pipeline.training.checkpoint import Checkpoint

CANARY = "from pathlib import Path\nPath(__file__).with_name('imported').touch()\n"
REFUSAL = (
    "'canary:Net' is code, and is not imported because a config or a file says so; if you trust it, name it yourself"
)


@pytest.fixture
def run_id(tmp_path: Path, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> str:
    """A trained run in the store of `tmp_path`, on images that are prepared there, with a network of somebody's."""
    monkeypatch.chdir(tmp_path)
    write_digits(tmp_path / "digits", digits[:20])
    write_digits(tmp_path / "others", digits[20:40])
    (tmp_path / "canary").mkdir()
    (tmp_path / "canary" / "__init__.py").write_text(CANARY)
    prepared = run_cli("prepare", "--dataset", "digits", cwd=tmp_path)
    assert prepared.code == 0, prepared
    checkpoint = Checkpoint("canary:Net", "", 1, 1, 0.0, {"weight": torch.zeros(1)}, 10)
    config = replace(Config(dataset="digits"), model="canary:Net")
    data = load_prepared(config)
    tags = {names.WEIGHTS: checkpoint.digest, names.DATASET_SHA256: data.digest}
    run_id = make_run(tmp_path, {"dataset": "digits", "model": "canary:Net"}, **tags)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(Path(folder) / "best.pt")
        client.log_artifact(run_id, f"{folder}/best.pt", "checkpoints")
    client.log_metric(run_id, names.noise_metric("psnr", "0.01"), 20)
    client.log_dict(
        run_id, {"results": {"0.01": {"denoised": {"psnr": 20}, "clipped": {"psnr": 10}}}}, names.EVALUATION
    )
    return run_id


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "--run-id"),
        ("evaluate", "--dataset", "others", "--noise", "gaussian", "--run-id"),
        ("export", "--run-id"),
        ("train", "--resume"),
        ("train", "--dataset", "digits", "--from"),
    ],
    ids=lambda words: words[0] + words[-1],
)
def test_it_is_refused_unless_the_user_names_it(
    tmp_path: Path, cli: Cli, run_id: str, command: tuple[str, ...]
) -> None:
    done = cli(*command, run_id, MLFLOW_EXPERIMENT_NAME="shared", PYTHONPATH=f"{_project()}:{tmp_path}")
    assert (done.code, REFUSAL in done.err) == (2, True), done
    assert not (tmp_path / "canary" / "imported").exists()


def test_it_is_imported_when_the_user_names_it(tmp_path: Path, cli: Cli, run_id: str) -> None:
    words = ("evaluate", "--run-id", run_id, "--code", "canary:Net")
    done = cli(*words, MLFLOW_EXPERIMENT_NAME="shared", PYTHONPATH=f"{_project()}:{tmp_path}")
    assert (done.code, "'canary:Net' cannot be imported" in done.err) == (1, True), done
    assert (tmp_path / "canary" / "imported").exists()


def test_a_comparison_does_not_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "canary.py").write_text(CANARY)
    assert multiply_adds_of("canary:Net", "", 100, 3) is None
    assert not (tmp_path / "imported").exists()


def _project() -> Path:
    return Path(__file__).parents[2]
