"""train: the same seed gives the same weights, the best epoch is kept, and a diverging loss stops the run."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli, write_digits

from pipeline.cli.options import OPTIONS, TRAIN
from pipeline.config import Config
from pipeline.data.batches import WholeImages
from pipeline.data.prepared import load_prepared
from pipeline.models import COURSE_PAGE, RECIPES, Recipe, build_model, recipe_of
from pipeline.noise import make_noise
from pipeline.scoring.metrics import METRICS
from pipeline.scoring.score import model_denoiser, score
from pipeline.stages.prepare import prepare
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.loop import Best, Epoch, fit
from pipeline.training.schedules import SCHEDULES


def quick_fit(
    digits: np.ndarray,
    seed: int = 0,
    target: str = "clean",
    epochs: int = 2,
    compiled: bool = False,
    **options: Any,
) -> tuple[Best, list[Epoch]]:
    torch.manual_seed(seed)
    images = torch.from_numpy(digits[:300, np.newaxis])
    seen: list[Epoch] = []
    best = fit(
        build_model("autoencoder"),
        WholeImages(images[:200]),
        images[200:],
        make_noise("gaussian", "0.01"),
        recipe=Recipe(epochs=epochs, batch_size=16, loss="mse", precision="float32", **{"lr": 0.02, **options}),
        target=target,
        seed=seed,
        compiled=compiled,
        on_epoch=seen.append,
    )
    return best, seen


def digest(best: Best) -> str:
    return Checkpoint("autoencoder", "", 1, best.epoch, best.validation_loss, best.state_dict).digest


def test_the_same_seed_gives_the_same_weights(digits: np.ndarray) -> None:
    assert digest(quick_fit(digits)[0]) == digest(quick_fit(digits)[0])
    assert digest(quick_fit(digits)[0]) != digest(quick_fit(digits, seed=1)[0])


def test_the_best_epoch_is_the_one_with_the_lowest_validation_loss(digits: np.ndarray) -> None:
    # A high and constant rate, so that the loss goes up and down.
    best, epochs = quick_fit(digits, epochs=8, lr=0.1, schedule="constant")
    losses = [epoch.validation_loss for epoch in epochs]
    assert losses.index(min(losses)) < len(losses) - 1, "the best epoch must not be the last, or nothing is shown"
    assert best.epoch == losses.index(min(losses)) + 1
    assert [epoch.epoch for epoch in epochs if epoch.is_best][-1] == best.epoch

    # The weights are those of that epoch: scored anew they give its loss.
    model = Checkpoint("autoencoder", "", 1, best.epoch, best.validation_loss, best.state_dict).load_model(
        torch.device("cpu")
    )
    again = score(
        digits[200:300, np.newaxis],
        make_noise("gaussian", "0.01"),
        {"model": model_denoiser(model, torch.device("cpu"))},
        METRICS,
    )
    assert again["model"]["mse"].mean() == pytest.approx(best.validation_loss, rel=0.05)  # other noise, same images


def test_the_noisy_target_learns_to_copy_the_noise(digits: np.ndarray) -> None:
    """The page's mistake: its loss, taken against the noisy image, never falls to that of a clean target."""
    clean, _ = quick_fit(digits, epochs=6)
    noisy, _ = quick_fit(digits, epochs=6, target="noisy")
    assert noisy.validation_loss > clean.validation_loss
    assert digest(clean) != digest(noisy)


def test_schedules_stay_between_0_and_1() -> None:
    for factor in SCHEDULES.values():
        values = [factor(step / 1000) for step in range(1000)]
        assert 0 < min(values) <= max(values) <= 1
    assert SCHEDULES["linear"](0.999) < 0.01


def test_a_diverging_run_fails_with_one_line(cli: Cli, tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:60])
    done = cli("run", "--dataset", "digits", "--lr", "1e30", "--epochs", "2")
    assert done.code == 1
    assert "training diverged" in done.err
    assert "nan" in done.err
    assert len(done.err.splitlines()) == 1
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        assert store.execute("SELECT status FROM runs").fetchall() == [("FAILED",)]
    assert not (tmp_path / "artifacts").exists()


def test_two_runs_of_the_command_give_the_same_weights(cli: Cli, tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:300])
    assert cli("prepare", "--dataset", "digits").code == 0
    for _ in range(2):
        assert cli("train", "--dataset", "digits", "--epochs", 2, "--batch-size", 16, "--force").code == 0
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        first, second = store.execute("SELECT value FROM tags WHERE key = 'weights'").fetchall()
    assert first == second


def test_a_missing_device_is_one_line(cli: Cli, tmp_path: Path, digits: np.ndarray) -> None:
    name = "cuda" if not torch.cuda.is_available() else "mps"
    write_digits(tmp_path / "digits", digits[:60])
    done = cli("run", "--dataset", "digits", "--device", name)
    assert done.code == 1
    assert done.err.startswith(f"Error: --device {name}: not available on this machine; available:")


def test_recipes_fill_in_what_is_not_given() -> None:
    chosen = {name: OPTIONS[name].default for name in TRAIN}
    for name in RECIPES:
        assert Config.from_options(**{**chosen, "recipe": name}).training_recipe == recipe_of("autoencoder", name)
    config = Config.from_options(**{**chosen, "recipe": "page", "epochs": 3})
    assert config.training_recipe == replace(COURSE_PAGE, epochs=3)
    assert "page" in config.run_name
    assert (COURSE_PAGE.epochs, COURSE_PAGE.batch_size, COURSE_PAGE.lr, COURSE_PAGE.optimizer) == (
        10,
        64,
        0.001,
        "adam",
    )  # the page's text


def test_a_compiled_network_trains_the_same(digits: np.ndarray) -> None:
    plain, epochs = quick_fit(digits, epochs=1)
    compiled, compiled_epochs = quick_fit(digits, epochs=1, compiled=True)
    assert compiled.state_dict.keys() == plain.state_dict.keys()
    assert compiled_epochs[0].validation_loss == pytest.approx(epochs[0].validation_loss, rel=0.05)


def test_prepared_images_are_mapped_and_left_alone(cli: Cli, tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:100])
    config = Config(dataset=str(tmp_path / "digits"), data_dir=str(tmp_path / "data"))
    data = prepare(config)
    assert isinstance(data.train, np.memmap)
    assert cli("train", "--dataset", tmp_path / "digits", "--data-dir", tmp_path / "data").code == 0
    assert load_prepared(config).digest == data.digest  # verifies every file
