"""`--from`: a training that starts from the weights of another model."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
from calls import run_all
from conftest import write_digits
from mlflow.entities import Run

from pipeline.tracking import names

TRAIN = ("--dataset", "digits", "--epochs", "1", "--batch-size", "8")
SLOW = (*TRAIN, "--lr", "1e-9")  # changes nothing but BatchNorm's statistics


def runs(folder: Path) -> list[Run]:
    return list(mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_runs(["0"]))


def test_a_training_goes_on_from_a_run_a_hand_off_and_a_registered_model(tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:120])
    first_run = ["run", *TRAIN, "--epochs", "8", "--name", "first", "--register", "digits", "--allow-worse"]
    (first,) = run_all(tmp_path, [first_run])
    assert first.code == 0, first
    (source,) = runs(tmp_path)
    run_id, handoff = source.info.run_id, "artifacts/first"
    calls = [
        ["run", *SLOW, "--from", run_id, "--allow-worse"],
        ["train", *SLOW, "--from", handoff],
        ["train", *SLOW, "--from", f"{handoff}/model.onnx"],  # the same weights: is not trained again
        ["train", *SLOW, "--from", "models:/digits@champion"],
        ["train", *SLOW, "--from", "models:/digits/1", "--force"],
        ["train", *SLOW],
        *(
            ["train", *TRAIN, "--from", run_id, "--model", "resunet"],
            ["train", *TRAIN, "--from", handoff, "--model", "unet"],
        ),
        *(["train", *TRAIN, "--from", "nowhere"], ["train", *TRAIN, "--from", "0" * 32]),
        ["sweep", *TRAIN, "--lr", "1e-9;2e-9", "--from", run_id, "--jobs", "2"],
    ]
    results = run_all(tmp_path, calls)
    continued, of_folder, of_file, no_alias, of_registry, fresh, other_run, other_file, nowhere, no_run, sweep = results
    for done in (continued, of_folder, of_file, of_registry, fresh, sweep):
        assert done.code == 0, done
    assert "train: reusing what run" in of_file.out
    assert (tmp_path / "artifacts" / "autoencoder-digits-var0.01-seed0-continued").is_dir()
    assert "give --model autoencoder" in other_run.err
    assert "it holds autoencoder; train the same" in other_file.err
    for done, code in ((other_run, 2), (other_file, 2), (nowhere, 2), (no_run, 2), (no_alias, 2)):
        assert done.code == code, done
        assert len(done.err.splitlines()) == 1
        assert "--from" in done.err
    assert no_alias.err.count("models:/digits@champion") == 1

    found = {run.info.run_name: run for run in runs(tmp_path) if names.START in run.data.tags}
    assert {run.data.tags[names.START] for run in found.values()} == {run_id}
    losses = [
        min(float(value) for value in re.findall(r"validation loss ([\d.]+)", done.out))
        for done in (first, continued, of_folder, fresh)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.2)  # it starts where the other ended ...
    assert losses[2] == pytest.approx(losses[1], rel=1e-3)
    assert losses[3] > 1.5 * losses[1]  # ... and not where a fresh one does


def test_it_is_resumed_when_its_source_is_gone(tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:120])
    (first,) = run_all(tmp_path, [["run", *TRAIN, "--name", "first", "--allow-worse"]])
    assert first.code == 0, first
    shutil.copytree(tmp_path / "artifacts" / "first", tmp_path / "given")
    (failed,) = run_all(tmp_path, [["train", *TRAIN, "--lr", "1e30", "--from", "given"]])
    assert failed.code == 1
    shutil.rmtree(tmp_path / "given")
    run_id = runs(tmp_path)[0].info.run_id
    (again,) = run_all(tmp_path, [["train", "--resume", run_id]])
    assert (again.code, "training diverged" in again.err) == (1, True), again  # as before: it did start
