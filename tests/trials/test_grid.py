"""Every combination of options is a trial once; which trials the sweeps of the course page's exercises have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click
import pytest

from pipeline.cli import sweep_commands
from pipeline.cli.commands import cli as command_line
from pipeline.cli.options import TRAIN
from pipeline.errors import PipelineError
from pipeline.trials.grid import grid
from pipeline.trials.running import Trial


def trials(command: str, *arguments: str) -> list[Trial]:
    """The trials that a command line runs."""
    found: list[Trial] = []

    def keep(_name: str, options: Mapping[str, Any], seeds: int, *_others: object) -> None:
        found.extend(grid(sweep_commands._value_lists(options), seeds))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_commands, "_sweep", keep)
        command_line.commands[command].main(list(arguments), standalone_mode=False)
    return found


def test_every_combination_is_there_once() -> None:
    found = trials(
        *("sweep", "--variance", "0.001; 0.1", "--variance", "0.001", "--model", "unet", "--lr", "auto;0.1"),
        *("--seeds", "3", "--seed", "4"),
    )
    assert len(found) == 2 * 2 * 3
    assert len({trial.name for trial in found}) == len(found)
    assert {trial.group for trial in found} == {
        f"variance={variance} lr={lr}" for variance in ("0.001", "0.1") for lr in ("auto", "0.1")
    }
    assert {(trial.config.variance, trial.config.seed) for trial in found} == {
        (variance, seed) for variance in ("0.001", "0.1") for seed in (4, 5, 6)
    }
    assert {trial.config.model for trial in found} == {"unet"}


def test_without_several_values_it_is_one_trial() -> None:
    (trial,) = trials("sweep")
    assert (trial.name, trial.group) == ("autoencoder-var0.01-seed0", "autoencoder")


def test_switches_without_a_value_are_true() -> None:
    assert [trial.config.clip_input for trial in trials("sweep", "--clip-input", "--epochs", "1")] == [True]
    assert [trial.config.clip_input for trial in trials("sweep", "--clip-input", "false;true")] == [False, True]


def test_too_many_trials_are_refused() -> None:
    options = {name: ["x"] for name in TRAIN}
    with pytest.raises(PipelineError, match=re.escape("the sweep has 10,001 trials; at most 10,000 are allowed")):
        grid(options, 10_001)


def test_options_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(PipelineError, match="size"):
        trials("sweep", "--model", "resunet;unet", "--size", "s")


@pytest.mark.parametrize("low_high", ["0.0005:0.1", "0.001:0.05"])
def test_blind_has_a_range_and_a_specialist_for_each_level(low_high: str) -> None:
    found = trials("blind", "--size", "s", "--variance", low_high)
    assert [trial.config.variance for trial in found] == [low_high, "0.001", "0.01", "0.1"]
    assert {(trial.config.model, trial.config.size, trial.config.noise) for trial in found} == {
        ("resunet", "s", "gaussian")
    }
    assert [trial.group for trial in found][:2] == [f"variance={low_high}", "variance=0.001"]


def test_blind_needs_a_range() -> None:
    with pytest.raises(click.UsageError, match=re.escape("--variance 0.01: blind training needs a range LOW:HIGH")):
        trials("blind", "--variance", "0.01")


def test_unet_has_three_models_for_as_many_epochs() -> None:
    found = trials("unet", "--clip-input")
    assert [trial.config.model for trial in found] == ["autoencoder", "unet", "resunet"]
    assert {(trial.config.epochs, trial.config.clip_input) for trial in found} == {(10, True)}
