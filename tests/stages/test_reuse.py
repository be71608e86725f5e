"""A stage whose inputs are the same is not run again; otherwise it says what has changed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import PROJECT, Result, run_cli, write_digits

from pipeline.tracking import names

RUN = ("run", "--dataset", "digits", "--epochs", "2", "--batch-size", "8", "--name", "small", "--allow-worse")
TRAIN = ("train", *RUN[1:7])
STAGES = ("prepare", "train", "evaluate", "export")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, digits: np.ndarray) -> Path:
    """A copy of the project in which `run` was run once, to edit the source of."""
    folder = tmp_path_factory.mktemp("reuse")
    write_digits(folder / "digits", digits[:200])
    shutil.copytree(PROJECT / "pipeline", folder / "pipeline")
    shutil.copy(PROJECT / "README.md", folder)
    done = run(folder)
    assert reused(done) == set()
    return folder


def run(folder: Path, *arguments: str) -> Result:
    done = run_cli(*(arguments or RUN), cwd=folder, PYTHONPATH=str(folder))
    assert (done.code, done.err) == (0, ""), done
    return done


def reused(done: Result) -> set[str]:
    return {
        stage
        for stage in STAGES
        for line in done.out.splitlines()
        if line.startswith(f"{stage}: ") and " reusing " in line and " not reusing " not in line
    }


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def count_runs(folder: Path) -> int:
    return len(mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_runs(["0"]))


def test_nothing_is_done_twice(folder: Path) -> None:
    edit(folder / "README.md", "denoise-pipeline", "another title")
    edit(folder / "pipeline" / "training" / "loop.py", "import math", "# A comment decides nothing.\nimport math")
    edit(folder / "pipeline" / "models" / "dncnn.py", "bias=False", "bias=True")  # not what was trained
    assert reused(run(folder)) == set(STAGES)
    assert count_runs(folder) == 1

    before = content(folder)
    asked = run(folder, *RUN, "--dry-run").out.splitlines()
    assert "  epochs: 2" in asked
    (run_id,) = {line.split()[3] for line in asked if line.startswith("train: what run ")}
    assert asked[-3:] == [
        f"train: what run {run_id} has trained would be reused",
        "evaluate: its results would be reused",
        "export: artifacts/small would be reused",
    ]
    another = run(folder, *RUN, "--sigma", "25", "--dry-run").out.splitlines()
    assert "  variance: 0.00961169" in another
    assert another[-3] == "train: would run as autoencoder-digits-var0.00961169-seed0: no run has trained this"
    forced = run(folder, *RUN, "--force", "--dry-run").out.splitlines()
    assert forced[-3].endswith("-seed0, because of --force")
    assert content(folder) == before  # nothing was written
    assert run(folder, *RUN, "--quiet").out == f"{run_id}\n"


def content(folder: Path) -> dict[Path, int]:
    """When each file was written last, but for compiled ones and locks, which are taken to read too."""
    paths = (path for path in folder.rglob("*") if "__pycache__" not in path.parts and path.suffix != ".lock")
    return {path: path.stat().st_mtime_ns for path in paths}


def test_what_has_changed_is_said_and_done_again(folder: Path) -> None:
    # An edit that nobody committed, and damage to what two stages have left.
    edit(folder / "pipeline" / "scoring" / "score.py", "import torch", "import torch\n\nUNUSED = 1")
    edit(folder / "artifacts" / "small" / "MODEL_CARD.md", "dB", "db")
    (prepared,) = (folder / "data" / "prepared").glob("digits-*/train.npy")
    prepared.write_bytes(prepared.read_bytes()[:-1])
    done = run(folder)
    assert reused(done) == {"train"}
    assert "prepare: digits: preparing again: " in done.out
    assert "train.npy is damaged: its SHA-256" in done.out
    assert "evaluate: not reusing the results of run" in done.out
    assert "changed: pipeline/scoring/score.py" in done.out

    # What the store holds.
    artifacts = folder / "mlruns" / "0" / done.out.rsplit("run: ", 1)[1].split(";")[0] / "artifacts"
    report = json.loads((artifacts / names.EVALUATION).read_text())
    report["results"]["0.01"]["denoised"]["psnr"] = 99.0
    (artifacts / names.EVALUATION).write_text(json.dumps(report))
    done = run(folder, "evaluate")
    assert reused(done) == set()
    assert f"{names.EVALUATION} is damaged" in done.out
    assert count_runs(folder) == 1

    checkpoint = artifacts / names.CHECKPOINT
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[:-9])
    done = run(folder, *TRAIN)
    assert re.search(r"train: not reusing run \w+: .*best\.pt", done.out)
    assert count_runs(folder) == 2

    # Options, data and source: a new run.
    checkpoint.write_bytes(content)
    edit(folder / "pipeline" / "training" / "optimizers.py", "_WARM_UP = 0.1", "_WARM_UP = 0.2")
    shutil.copy(folder / "digits" / "0000.png", folder / "digits" / "another.png")
    assert "prepare: digits: preparing again, changed: inputs" in run(folder, "prepare", "--dataset", "digits").out
    done = run(folder, *TRAIN, "--lr", "0.02")
    assert re.search(r"train: not reusing run \w+, changed: data, lr 0.02 \(was 0.01\), .*optimizers.py", done.out)
    assert count_runs(folder) == 3
