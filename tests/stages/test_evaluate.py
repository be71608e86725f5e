"""evaluate: what a call that is killed leaves behind, and what a call that is repeated adds."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import PROJECT, Result, environment, run_cli, run_module, write_digits
from PIL import Image

from pipeline.tracking import names

# `python -m die MOMENT WORDS…` is `python -m pipeline WORDS…`, killed when it comes to that moment.
DIE = """
import os, signal, sys
from pipeline.cli.commands import main
from pipeline.reports import figures
from pipeline.stages import evaluate
from pipeline.tracking.run import OpenRun

owner, name = {
    "scored": (figures, "denoising_grid"),
    "drawing": (figures, "psnr_curve"),
    "logging": (OpenRun, "log_fingerprint"),
    "printing": (evaluate, "_print"),
}[sys.argv[1]]
assert hasattr(owner, name)
setattr(owner, name, lambda *arguments, **options: os.kill(os.getpid(), signal.SIGKILL))
main(sys.argv[2:])
"""


def killed(moment: str, folder: Path, *words: str) -> Result:
    (folder / "die.py").write_text(DIE)
    return run_module("die", [moment, *words], folder, environment(PYTHONPATH=f"{folder}:{PROJECT}"))


def points(folder: Path) -> dict[str, int]:
    """How many points every metric of the evaluation has, in the only run there is."""
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs(["0"])
    metrics = [name for name in run.data.metrics if name.startswith("test")]
    return {name: len(client.get_metric_history(run.info.run_id, name)) for name in metrics}


@pytest.fixture
def folder(tmp_path: Path, digits: np.ndarray) -> Path:
    """A folder with a run that is trained and not evaluated."""
    write_digits(tmp_path / "digits", digits[:60])
    assert run_cli("prepare", "--dataset", "digits", cwd=tmp_path).code == 0
    done = run_cli("train", "--dataset", "digits", "--epochs", 1, "--batch-size", 16, cwd=tmp_path)
    assert done.code == 0, done
    return tmp_path


def test_killed_at_any_moment_and_repeated_every_metric_has_one_point(folder: Path) -> None:
    for moment in ("scored", "drawing", "logging"):
        done = killed(moment, folder, "evaluate")
        assert done.code == -9, done
        assert points(folder) == {}, f"killed when {moment}, it must have logged everything or nothing"

    assert killed("printing", folder, "evaluate").code == -9  # everything is kept on disk by now
    done = run_cli("evaluate", cwd=folder)
    assert (done.code, done.err) == (0, ""), done
    assert "evaluate: reusing the results of run" in done.out
    found = points(folder)
    assert set(found.values()) == {1}
    assert names.noise_metric("psnr", "0.1") in found

    # Another noise adds its own metrics, and no second point to the others.
    done = run_cli("evaluate", "--noise", "salt-pepper:amount=0.1", "--clip-input", cwd=folder)
    assert done.code == 0, done
    label = "salt-pepper-amount0.1-clipped"
    assert f"evaluate: {label}: PSNR noisy" in done.out
    more = points(folder)
    assert set(more.values()) == {1}
    assert {name.rpartition("/")[2] for name in set(more) - set(found)} == {label}
    (report,) = folder.glob(f"mlruns/0/*/artifacts/{names.EVALUATION}")
    assert set(json.loads(report.read_text())["results"]) == {"0.001", "0.01", "0.1", label}

    # Data that changed under the run.
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(folder / "digits" / "0000.png")
    assert run_cli("prepare", "--dataset", "digits", cwd=folder).code == 0
    done = run_cli("evaluate", cwd=folder)
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "was trained on other data" in done.err
