"""What a training is settled on once its data are prepared."""

from __future__ import annotations

import re
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import Cli


@pytest.fixture
def noisy(tmp_path: Path, digits: np.ndarray) -> Path:
    """A folder with noisy images alone, sigma 0.1, as a stack of floats that are not clipped."""
    folder = tmp_path / "mine" / "noisy"
    folder.mkdir(parents=True)
    drawn = np.random.default_rng(0).normal(0, 0.1, (400, 28, 28))
    np.save(folder / "stack.npy", (digits[:400] / 255 + drawn).astype(np.float32))
    return folder.parent


def test_the_level_of_recorded_noise_is_estimated_for_targets_that_need_it(noisy: Path, cli: Cli) -> None:
    options = ["train", "--dataset", noisy, "--model", "resunet", "--size", "s", "--epochs", 1]
    assert cli("prepare", "--dataset", noisy).code == 0
    done = cli(*options, "--target", "r2r")
    assert done.code == 0, done
    said = re.search(r"standard deviation of (\S+), estimated from (\d+) images", done.out)
    assert said, done.out
    assert float(said[1]) == pytest.approx(0.1, rel=0.03)
    run = mlflow.MlflowClient(f"sqlite:///{noisy.parent / 'mlflow.db'}").search_runs(["0"])[0]
    assert run.data.params["noise"] == f"recorded:sigma={said[1]}"

    given = cli(*options, "--target", "sure", "--noise", "recorded:sigma=0.11")
    assert (given.code, "estimated" in given.out) == (0, False), given
