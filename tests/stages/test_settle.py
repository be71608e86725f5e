"""What follows from the data: what is said about it, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from conftest import Cli
from PIL import Image
from skimage import data

from pipeline.cli.options import OPTIONS, TRAIN
from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.stages.prepare import prepare
from pipeline.stages.settle import settle


def images(folder: Path, count: int, side: int, sigma: float = 0.0) -> Path:
    """A folder of crops of a photograph, with noise or without."""
    folder.mkdir(parents=True)
    picture, rng = data.camera() / 255, np.random.default_rng(0)
    for number in range(count):
        top, left = rng.integers(0, 512 - side, 2)
        crop = picture[top : top + side, left : left + side] + sigma * rng.normal(size=(side, side))
        Image.fromarray((crop.clip(0, 1) * 255).round().astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def settled(folder: Path, tmp_path: Path, **given: Any) -> Config:
    options = {
        **{name: OPTIONS[name].default for name in TRAIN},
        **{"dataset": str(folder), "data_dir": str(tmp_path / "data")},
    }
    return settle(Config(**{**options, **given}), prepare(Config(dataset=str(folder), data_dir=str(tmp_path / "data"))))


def test_little_data_means_many_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = settled(images(tmp_path / "set", 105, 64), tmp_path)
    assert (config.epochs, config.crop, config.noise, config.target) == (667, 0, "gaussian", "clean")
    assert "train: 72 images of 64x64, 667 epochs (48,024 in all)\n" in capsys.readouterr().out


def test_large_images_are_cropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = settled(images(tmp_path / "set", 6, 256), tmp_path, epochs=2)
    assert (config.epochs, config.crop) == (2, 64)
    assert "train: 64 crops of 64x64 from 4 images of 256x256, 2 epochs (128 in all)\n" in capsys.readouterr().out


def test_the_target_of_noisy_images_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = settled(images(tmp_path / "noisy", 30, 64, sigma=0.1), tmp_path)
    assert (config.noise, config.target) == ("recorded", "self")
    assert "in all), --noise recorded, --target self\n" in capsys.readouterr().out


def test_what_does_not_fit_the_data_is_refused(tmp_path: Path) -> None:
    clean, noisy = images(tmp_path / "set", 10, 64), images(tmp_path / "noisy", 10, 64, sigma=0.1)
    for folder, given, message in (
        (clean, {"noise": "recorded"}, "has no noisy images, only clean ones"),
        (noisy, {"noise": "gaussian"}, "has no clean images to add noise to; use recorded"),
        (noisy, {"target": "clean"}, "--target clean: the data have no clean images"),
        (noisy, {"target": "noisy2noisy"}, "two or more captures of every scene are needed"),
        (clean, {"crop": 65}, "--crop 65 is larger than the smallest side of the images, 64 pixels"),
    ):
        with pytest.raises(PipelineError, match=message):
            settled(folder, tmp_path, **given)


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
