"""Recipes: what they stand for, and that an option that is given wins."""

from __future__ import annotations

import pytest

from pipeline.cli.options import OPTIONS, TRAIN
from pipeline.config import Config, DataFacts
from pipeline.models import COURSE_PAGE, RECIPES, recipe_of


def test_recipes_fill_in_what_is_not_given() -> None:
    chosen = {name: OPTIONS[name].default for name in TRAIN}
    for name in RECIPES:
        assert Config(**{**chosen, "recipe": name}).training_recipe == recipe_of("autoencoder", name)
    config = Config(**{**chosen, "recipe": "page", "epochs": 3})
    assert config.training_recipe == COURSE_PAGE
    assert config.epochs == 3
    assert "page" in config.run_name
    text = (64, 0.001, "adam")  # of the page
    assert (COURSE_PAGE.batch_size, COURSE_PAGE.lr, COURSE_PAGE.optimizer) == text


@pytest.mark.parametrize(
    ("facts", "crop", "epochs"),
    [
        (DataFacts(), 0, {"fast": 1, "best": 10, "page": 10}),  # MNIST, as the page trains
        (DataFacts(images=60_000, pixels=60_000 * 784), 0, {"fast": 1, "page": 8}),
        (DataFacts(images=343, pixels=343 * 64 * 64, smallest=64, largest=64), 0, {"fast": 140, "best": 1399}),
        (DataFacts(images=1, pixels=64 * 64, smallest=64, largest=64), 0, {"fast": 750}),  # steps, of an image
        (DataFacts(images=10, pixels=10 * 1024 * 2048, smallest=1024, largest=2048), 64, {"fast": 9}),
    ],
)
def test_epochs_follow_from_the_number_of_images(facts: DataFacts, crop: int, epochs: dict[str, int]) -> None:
    chosen = {name: OPTIONS[name].default for name in TRAIN}
    for recipe, expected in epochs.items():
        config = Config(**{**chosen, "recipe": recipe}).settled(facts)
        assert (config.epochs, config.crop) == (expected, crop)
    assert Config(**{**chosen, "epochs": 2}).settled(facts).epochs == 2
