"""What a config is called, how it is stored, and what a recipe fills in."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import AUTO, CHOICES, RECIPE, Config, DataFacts
from pipeline.errors import PipelineError
from pipeline.models import MODELS, recipe_of
from pipeline.training.objectives import LOSSES, TARGETS
from pipeline.training.optimizers import OPTIMIZERS, SCHEDULES

OPTIONS: dict[str, Any] = {**json.loads(Config().to_json()), **dict.fromkeys(RECIPE, AUTO)}


def test_it_survives_being_stored() -> None:
    config = Config(model="unet:width=8", variance="0.001:0.1", lr=0.0123, clip_input=True)
    assert Config.from_json(config.to_json()) == config
    with pytest.raises(FrozenInstanceError):
        config.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "option: 'epoch' is not known"),
        ({"size": "/../../../x"}, "'/../../../x' is not known"),
        ({"model": "../../x"}, "'../../x' is not known"),
        ({"model": "unet:width=1/../../x"}, "'1/../../x' is not an integer"),
        ({"model": "unet:width=" + "1" * 5000}, "is not an integer from 1 to 1,024"),
        ({"model": "my.models:Net:width=1/../../x"}, "'width=1/../../x' is not an option; its value is a number"),
        ({"model": "my.models:Net:../../x=1"}, "'../../x=1' is not an option"),
        ({"model": "my.models:Net", "size": "../x"}, "--size of --model my.models:Net: '../x' is not known"),
        ({"model": "my/models:Net"}, "'Net' is not of the form key=value"),
        ({"noise": "../x"}, "'../x' is not known"),
        ({"variance": "../x"}, "'../x' is not a number"),
        ({"recipe": "../x"}, "recipe: '../x' is not known; allowed: fast, best, page"),
        ({"target": "../x"}, "target: '../x' is not known"),
        ({"optimizer": ["adam"]}, "optimizer: '['adam']' is not known"),
        ({"seed": "/../../x"}, "seed: '/../../x' is not an integer from 0 to 4,294,967,295"),
        ({"seed": 1.5}, "seed: 1.5 is not an integer"),
        ({"epochs": True}, "epochs: True is not an integer from 1 to 100,000"),
        ({"epochs": AUTO}, "epochs: 'auto' is not an integer"),
        ({"channels": 65}, "channels: 65 is not an integer from 1 to 64"),
        ({"lr": float("nan")}, "lr: nan is not a number above 0"),
        ({"clip_input": "false"}, "clip_input: 'false' is not true or false"),
        ({"dataset": None}, "dataset: None is not a text"),
        ({"data_dir": "a\0b"}, "is not valid text"),
        ({"start": "\ud800"}, "is not valid text"),
        ({"crop": 31}, "--crop 31 is too small"),
        ({"white": 10, "black": 20}, "--white 10 is not above --black 20"),
        ({"target": "sure", "loss": "psnr"}, "takes no estimate below 0"),
    ],
)
def test_what_a_store_holds_is_checked_like_the_command_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        Config.from_json(json.dumps({**json.loads(Config().to_json()), **changes}))
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "3", "[]", "nonsense", "[" * 20_000, '{"seed": ' + "1" * 5000 + "}"])
def test_what_is_no_config_is_refused(text: str) -> None:
    with pytest.raises(PipelineError):
        Config.from_json(text)


def test_its_choices_are_what_training_has() -> None:
    tables: dict[str, Collection[str]] = {
        "target": TARGETS,
        "loss": LOSSES,
        "optimizer": OPTIMIZERS,
        "schedule": SCHEDULES,
    }
    assert {name: CHOICES[name] for name in tables} == {name: tuple(table) for name, table in tables.items()}


def test_a_recipe_fills_in_what_is_auto() -> None:
    page = Config(**{**OPTIONS, "recipe": "page", "epochs": 3})
    assert (page.epochs, page.optimizer, page.loss) == (3, "adam", "mse")
    assert Config(**OPTIONS) == Config()
    assert Config(**{**OPTIONS, "model": "resunet"}).training_recipe != Config().training_recipe


@pytest.mark.parametrize("model", MODELS.own)
def test_a_model_has_its_own_recipe(model: str) -> None:
    config = Config(model=model, recipe="best")
    assert config.training_recipe == recipe_of(model, "best")
    assert config.epochs == round(recipe_of(model, "best").images / DataFacts().images)
    assert Config(model=model, lr=0.5).training_recipe == replace(recipe_of(model, "fast"), lr=0.5)


def test_what_is_left_open_follows_from_the_data() -> None:
    config = Config(model="resunet", loss="mse")
    facts = DataFacts(layout="noisy", has_clean=False, images=10, pixels=10 * 300 * 300, smallest=300, largest=300)
    settled = config.settled(facts)
    assert (config.noise, config.target, config.crop, config.epochs) == ("gaussian", "clean", 0, 4)
    assert (settled.noise, settled.target, settled.crop, settled.crop_by) == ("recorded", "self", 64, "area")
    assert (settled.epochs, settled.precision) == (877, "float32")  # 192,000 of 219 crops
    assert (config.options["epochs"], config.options["loss"], settled.options["epochs"]) == (
        AUTO,
        "mse",
        settled.epochs,
    )
    assert settled.settled(DataFacts()) == settled  # once it is


def test_a_value_that_no_option_takes_is_refused_at_once() -> None:
    with pytest.raises(PipelineError, match=r"variance: 0\.01 is not a text; write '0.01'"):
        Config(variance=0.01)  # type: ignore[arg-type]
    with pytest.raises(PipelineError, match="epochs: 0 is not an integer from 1 to 100,000"):
        Config(epochs=0)


@pytest.mark.parametrize("target", ["sure", "self"])
def test_a_target_that_is_an_estimate_has_its_loss_and_precision(target: str) -> None:
    config = Config(**{**OPTIONS, "model": "resunet", "target": target})
    assert (config.loss, config.precision) == ("mse", "float32")
    assert Config(**{**OPTIONS, "model": "resunet"}).loss == "psnr"


@pytest.mark.parametrize(
    "changes", [{"noise": "recorded"}, {"noise": "recorded:sigma=0.05", "clip_input": True}, {"variance": "0.02"}]
)
@pytest.mark.parametrize("target", ["sure", "r2r"])
def test_targets_for_a_known_level_take_noise_of_one_level(target: str, changes: dict[str, Any]) -> None:
    assert Config(**{**OPTIONS, **changes, "target": target}).target == target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "sure", "loss": "psnr"}, "--target sure: --loss psnr takes no estimate below 0; allowed: mse"),
        ({"target": "self", "precision": "bfloat16"}, "--target self: --precision bfloat16 is too coarse for it"),
        ({"target": "r2r", "noise": "poisson"}, "--target r2r needs gaussian noise of one variance above 0"),
        ({"target": "sure", "variance": "0.01:0.1"}, "--noise gaussian:variance=0.01:0.1 is neither"),
        ({"target": "sure", "clip_input": True}, "not clipped, or recorded noise; --noise gaussian:variance=0.01 clip"),
        ({"target": "r2r", "noise": "gaussian:clip=0.5"}, "is neither"),
        ({"crop": 31}, "--crop 31 is too small; allowed: 0 for whole images, or at least 32 pixels"),
        ({"model": "unet", "size": "s"}, "size"),
        ({"model": "resunet", "size": "xl"}, "xl"),
    ],
)
def test_options_that_do_not_go_together(changes: dict[str, object], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        Config(**{**OPTIONS, **changes})


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "autoencoder-var0.01-seed0"),
        ({"model": "resunet", "size": "l", "variance": "0.0005:0.1"}, "resunet-l-var0.0005-0.1-seed0"),
        ({"model": "unet:width=8", "seed": 3, "recipe": "page"}, "unet-width8-var0.01-seed3-page"),
        ({"channels": 3, "target": "self"}, "autoencoder-var0.01-seed0-rgb-target-self"),
        ({"dataset": "kmnist"}, "autoencoder-kmnist-var0.01-seed0"),
    ],
)
def test_the_name_says_what_is_special(changes: dict[str, Any], name: str) -> None:
    assert replace(Config(), **changes).run_name == name


def test_a_folder_is_called_by_its_own_name_alone(tmp_path: Path) -> None:
    folder = tmp_path / "my photos é"
    folder.mkdir()
    config = Config(dataset=str(folder))
    assert config.dataset_name == "my photos é"
    assert config.run_name == "autoencoder-my-photos---var0.01-seed0"
    assert Config(dataset=f"{folder}/.").dataset_name == "my photos é"
