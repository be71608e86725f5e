"""Recipes: what they stand for, and that an option that is given wins."""

from __future__ import annotations

from dataclasses import replace

from pipeline.cli.options import OPTIONS, TRAIN
from pipeline.config import Config
from pipeline.models import COURSE_PAGE, RECIPES, recipe_of


def test_recipes_fill_in_what_is_not_given() -> None:
    chosen = {name: OPTIONS[name].default for name in TRAIN}
    for name in RECIPES:
        assert Config.from_options(**{**chosen, "recipe": name}).training_recipe == recipe_of("autoencoder", name)
    config = Config.from_options(**{**chosen, "recipe": "page", "epochs": 3})
    assert config.training_recipe == replace(COURSE_PAGE, epochs=3)
    assert "page" in config.run_name
    text = (10, 64, 0.001, "adam")  # of the page
    assert (COURSE_PAGE.epochs, COURSE_PAGE.batch_size, COURSE_PAGE.lr, COURSE_PAGE.optimizer) == text
