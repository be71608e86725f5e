"""What a search may choose from, and what it refuses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from pipeline.cli.commands import cli as command_line
from pipeline.cli.sweep_commands import _value_lists
from pipeline.errors import PipelineError
from pipeline.trials.space import space_of

if TYPE_CHECKING:
    from pipeline.trials.space import Space


def space(*arguments: str) -> Space:
    with command_line.commands["search"].make_context("search", list(arguments)) as context:
        values: dict[str, list[Any]] = _value_lists(context.params)
    return space_of(values)


def test_values_and_intervals() -> None:
    assert space("--lr", "0.001:0.03", "--epochs", "2:8", "--optimizer", "adam;soap", "--beta2", "0:0.5") == {
        "epochs": IntDistribution(2, 8, log=True),
        "optimizer": CategoricalDistribution(("adam", "soap")),
        "lr": FloatDistribution(0.001, 0.03, log=True),
        "beta2": FloatDistribution(0, 0.5),  # a logarithm cannot begin at 0
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "there is nothing to choose from; give an option several values, or LOW:HIGH"),
        (("--lr", "0.01:0.1;0.5"), "--lr takes several values or one LOW:HIGH, not both"),
        (("--variance", "0.1;0.01"), "the validation losses of variance=0.1 and variance=0.01 do not compare;"),
        (("--model", "resunet;unet", "--size", "s"), "size"),
    ],
)
def test_what_cannot_be_searched(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(PipelineError, match=re.escape(message)):
        space(*arguments)


@pytest.mark.parametrize("value", ["0.1:0.01", "auto:1", "0.01:0.01", "0.1:", "1:2:3"])
def test_what_is_no_interval(value: str) -> None:
    with pytest.raises(click.BadParameter, match="is not"):
        space("--lr", value)


def test_a_range_of_variances_is_one_value() -> None:
    with pytest.raises(PipelineError, match="nothing to choose from"):
        space("--variance", "0.001:0.1")


def test_intervals_are_for_a_search() -> None:
    with pytest.raises(click.BadParameter, match=r"'0\.01:0\.1' is an interval, which only the command search takes"):
        command_line.commands["sweep"].make_context("sweep", ["--lr", "0.01:0.1"])
