"""What the options accept, become, and say about a value that they refuse."""

from __future__ import annotations

import re
from typing import Any

import click
import pytest

from pipeline.cli.commands import cli
from pipeline.cli.options import OPTIONS, TRAIN
from pipeline.config import AUTO, OF_DATA, RECIPE, Config
from pipeline.trials.space import Bounds


def params(command: str, *arguments: str) -> dict[str, Any]:
    parent = click.Context(cli, **cli.context_settings)
    with cli.commands[command].make_context(command, list(arguments), parent) as context:
        return context.params


def test_the_defaults_are_those_of_a_config() -> None:
    given = params("train")
    assert {name: given[name] for name in TRAIN} == {
        name: AUTO if name in (*RECIPE, *OF_DATA) else getattr(Config, name) for name in TRAIN
    }
    assert Config(**{name: given[name] for name in TRAIN}) == Config()


@pytest.mark.parametrize(
    ("command", "arguments", "name", "value"),
    [
        ("run", ("--clip-input",), "clip_input", True),
        ("run", ("--clip-input", "false"), "clip_input", False),
        ("run", ("--clip-input", "--epochs", "2"), "epochs", 2),
        ("run", ("--lr", "1e-2"), "lr", 0.01),
        ("run", ("--lr", "auto"), "lr", AUTO),
        ("run", ("--batch_size", "32"), "batch_size", 32),
        ("sweep", ("--lr", "0.1; auto", "--lr", "0.1"), "lr", [0.1, AUTO]),
        ("sweep", ("--channels", "3"), "channels", 3),
        ("sweep", (), "model", ["autoencoder"]),
        ("sweep", ("--variance", "0.1:0.2;0.3"), "variance", ["0.1:0.2", "0.3"]),
        ("search", ("--epochs", "2:8"), "epochs", [Bounds(2, 8)]),
        ("search", (), "method", "tpe"),
        ("unet", (), "epochs", [10]),
        ("ui", (), "port", 5000),
        ("demo", ("docs",), "port", 8000),
    ],
)
def test_a_value_becomes_what_the_stages_take(
    command: str, arguments: tuple[str, ...], name: str, value: object
) -> None:
    found = params(command, *arguments)[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            (("run", "--variance", value), f"'--variance': '{value}' is not a number above 0 to 100")
            for value in ("-1", "0", "nan", "inf", "abc", "")
        ),
        (("train", "--epochs", "0"), "'--epochs': '0' is not an integer from 1 to 100,000"),
        (("train", "--epochs", "1.5"), "'--epochs': '1.5' is not an integer"),
        (("train", "--batch-size", "0"), "'--batch-size': '0' is not an integer from 1 to 1,000,000"),
        (("train", "--lr", "-0.1"), "'--lr': '-0.1' is not a number above 0 and up to 1e+30"),
        (("train", "--seed", "-1"), "'--seed': '-1' is not an integer from 0 to 4,294,967,295"),
        (("train", "--model", "unnet"), "'unnet' is not known; allowed: autoencoder"),
        (("train", "--noise", "pink"), "'pink' is not known; allowed: gaussian"),
        (("train", "--target", "both"), "'both' is not one of 'auto', 'clean', 'noisy'"),
        (("train", "--device", "tpu"), "'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (("train", "--clip-input", "maybe"), "'--clip-input': 'maybe' is neither true nor false"),
        (("train", "--clip-input", ""), "'--clip-input': '' is neither true nor false"),
        (("prepare", "--dataset", "minst"), "did you mean 'mnist'"),
        (("evaluate", "--run-id", "../etc"), "'--run-id': '../etc' is not the ID of an MLflow run: 32 digits"),
        (("export", "--name", "../up"), "'--name': '../up' is not made of letters, digits"),
        (("run", "--resume", "yes"), "32 digits and letters a to f, or true"),
        (("run", "--size", "S1"), "'--size': 'S1' is not a size: s, m or l"),
        (("sweep", "--lr", "0.1;x"), "'--lr': 'x' is not a number"),
        (("search", "--lr", "1:x"), "'--lr': 'x' is not a number"),
        (("train", "extra"), "unexpected extra argument (extra)"),
    ],
)
def test_a_refused_value_says_what_is_allowed(arguments: tuple[str, ...], message: str) -> None:
    command, *rest = arguments
    with pytest.raises(click.UsageError) as refused:
        params(command, *rest)
    assert message in refused.value.format_message()


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.default != ""])
def test_an_option_accepts_its_own_default(name: str) -> None:
    option = OPTIONS[name]
    assert option.type.convert(option.default, None, None) == option.default


def test_variants_are_checked_against_those_there_are() -> None:
    assert params("export", "--variant", "uint8, int8")["variant"] == "uint8, int8"
    with pytest.raises(click.BadParameter, match=re.escape("'int9' is not known; allowed: ")):
        params("export", "--variant", "uint8,int9")


def test_the_help_names_every_form_of_the_file_and_every_runtime() -> None:
    # By hand, because the tables are in modules that take seconds to import.
    from pipeline.handoff.variants import VARIANTS
    from pipeline.verification.runtimes import RUNTIMES

    for option, table in (("variant", VARIANTS), ("runtime", RUNTIMES)):
        assert ", ".join(table) in OPTIONS[option].help
