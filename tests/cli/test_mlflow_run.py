"""`mlflow run`, as a user types it: the main job on all 70,000 real digits, and every other entry point."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import HANG, PROJECT, Result, run_module, write_digits
from filelock import FileLock
from mlflow.entities import Run
from PIL import Image

from pipeline.reports.leaderboard import read_run
from pipeline.tracking import names

# A stand-in for conda: it knows no environments, makes none, and leaves the current one active. Nothing else of
# `mlflow run . -P variance=0.01` differs from what happens on a machine with conda.
CONDA = """#!/bin/sh
case "$1" in
    env) [ "$2" = list ] && echo '{"envs": []}' ;;
    --help) echo conda ;;
esac
exit 0
"""
CONDA_SH = "conda() { :; }\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, as in a fresh clone: `mlflow run` leaves its store and its data in it."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("MLproject", "conda.yaml"):
        shutil.copy(PROJECT / name, folder)
    shutil.copytree(PROJECT / "pipeline", folder / "pipeline")
    return folder


def mlflow_run(project: Path, *arguments: str, env_manager: str | None = "local", **environment: str) -> Result:
    # `python` in MLproject is looked up on the path: let it be the one that runs the tests, as in an activated
    # environment.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    manager = ["--env-manager", env_manager] if env_manager else []
    return run_module(
        "mlflow", ["run", ".", *manager, *arguments], project, {**os.environ, "PATH": path, **environment}
    )


def runs(project: Path) -> list[Run]:
    return list(mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}").search_runs(["0"]))


def test_the_main_job_on_all_of_mnist_with_the_verbatim_command(project: Path, tmp_path: Path) -> None:
    """`mlflow run . -P variance=0.01`, under a stand-in conda."""
    for path, content in {"bin/conda": CONDA, "etc/profile.d/conda.sh": CONDA_SH, "bin/activate": ""}.items():
        (tmp_path / "conda" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conda" / path).write_text(content)
        (tmp_path / "conda" / path).chmod(0o755)
    conda_home = str(tmp_path / "conda")
    done = mlflow_run(project, "-P", "variance=0.01", env_manager=None, MLFLOW_CONDA_HOME=conda_home)
    assert done.code == 0, done.err
    assert "48,000 training, 12,000 validation and 10,000 test images" in done.out
    (run,) = runs(project)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "autoencoder-var0.01-seed0"
    assert run.data.tags["mlflow.project.env"] == "conda"
    assert len(run.data.metrics) <= 20, sorted(run.data.metrics)
    report = json.loads((project / "mlruns" / "0" / run.info.run_id / "artifacts" / names.EVALUATION).read_text())
    own = report["results"]["0.01"]
    assert own["noisy"]["psnr"] == pytest.approx(20.01, abs=0.01)
    assert own["clipped"]["psnr"] == pytest.approx(22.66, abs=0.01)
    assert run.data.metrics[names.test_metric("psnr")] > 29.7  # what the page's recipe reaches in ten epochs
    assert (project / "artifacts" / "autoencoder-var0.01-seed0" / "model.onnx").is_file()

    # The example of using a file.
    shutil.copytree(PROJECT / "artifacts" / "mnist-blind", project / "artifacts" / "mnist-blind")
    (example,) = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "handoff.md").read_text(), re.DOTALL)
    subprocess.run([sys.executable, "-c", example], cwd=project, check=True, timeout=HANG)
    with Image.open(project / "denoised.png") as image:
        assert image.size == (28, 28)


def test_the_entry_points_one_by_one(project: Path, digits: np.ndarray) -> None:
    write_digits(project / "digits", digits[:200])
    done = mlflow_run(project, "-e", "prepare", "-P", "dataset=digits")
    assert done.code == 0, done.err
    # As a user types it: MLflow logs the text, and the pipeline must not log another.
    train = ["-e", "train", "-P", "dataset=digits", "-P", "epochs=2", "-P", "sigma=25", "-P", "lr=2e-2"]
    done = mlflow_run(project, *train, "-P", "clip_input=true", "--run-name", "mine")
    assert done.code == 0, done.err
    done = mlflow_run(project, "-e", "evaluate")
    assert done.code == 0, done.err
    export_it = ["-e", "export", "-P", "dataset=digits", "-P", "sigma=25", "-P", "clip_input=true"]
    done = mlflow_run(project, *export_it, "-P", "name=small", "-P", "allow_worse=true")
    assert done.code == 0, done.err
    assert (project / "artifacts" / "small" / "model.onnx").is_file()

    export, evaluate, train_run, prepare = runs(project)  # newest first
    assert {run.info.status for run in (export, evaluate, train_run, prepare)} == {"FINISHED"}
    assert prepare.inputs.dataset_inputs
    assert train_run.info.run_name == "mine"  # a name that the user gave stays
    # What was typed, as it was typed; and of the rest what was used, not a default.
    params = {
        name: train_run.data.params[name] for name in ("sigma", "variance", "lr", "clip_input", "model", "channels")
    }
    assert params == {
        **{"sigma": "25", "variance": "0.00961169", "lr": "2e-2", "clip_input": "true"},
        **{"model": "autoencoder", "channels": "auto"},
    }
    assert train_run.data.tags[names.VARIANCE] == "0.00961169"
    assert names.noise_metric("psnr", "0.00961169-clipped") in train_run.data.metrics
    assert read_run(train_run).noise == "gaussian noise of variance 0.00961169, clipped to [0, 1]"
    assert train_run.data.tags[names.PARITY] == "passed"
    for run in (evaluate, export):
        assert run.data.tags[names.CONTINUES] == train_run.info.run_id


def test_a_failure_ends_as_failed_with_the_reason(project: Path) -> None:
    done = mlflow_run(project, "-e", "verify", "-P", f"folder={PROJECT / 'artifacts' / 'mnist-blind'}")
    assert done.code == 0, done.err
    assert "checks passed" in done.out
    done = mlflow_run(project, "-P", "bogus=1")
    assert done.code != 0
    assert "No such option '--bogus'" in done.err
    (project / "empty").mkdir()
    done = mlflow_run(project, "-e", "prepare", "-P", "dataset=empty")
    assert done.code != 0
    assert "no images in empty" in done.err
    prepare, bogus, verify = runs(project)  # newest first
    assert [run.info.status for run in (prepare, bogus, verify)] == ["FAILED", "FAILED", "FINISHED"]
    assert "No such option '--bogus'" in bogus.data.tags[names.ERROR]
    assert prepare.data.tags[names.ERROR].startswith("no images in empty; known formats are")
    assert prepare.data.tags[names.NOTE] == f"Failed: {prepare.data.tags[names.ERROR]}"
    assert names.ERROR not in verify.data.tags
    artifacts = project / "mlruns" / "0" / prepare.info.run_id / "artifacts"
    assert "Traceback (most recent call last):" in (artifacts / names.TRACEBACK).read_text()
    assert "Error: no images in empty" in (artifacts / names.CONSOLE).read_text()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="not run: needs /proc")
def test_mlflow_run_takes_the_training_along_when_it_dies(project: Path, digits: np.ndarray) -> None:
    write_digits(project / "digits", digits[:200])
    process = subprocess.Popen(
        [*(sys.executable, "-m", "mlflow", "run", ".", "--env-manager", "local"), *OPTIONS],
        cwd=project,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    states = project / "data" / "runs"
    while not list(states.glob("*/states/*.pt")):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    process.wait()
    deadline = time.monotonic() + HANG
    while (run := runs(project)[0]).info.status == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert run.info.status == "KILLED"
    assert run.data.tags[names.RESUMABLE] == "true"
    for path in states.glob("*.lock"):  # nobody holds it: the training has ended
        FileLock(path).acquire(timeout=HANG)


OPTIONS = ("-P", "dataset=digits", "-P", "epochs=4999", "-P", "batch_size=8")
