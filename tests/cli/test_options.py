"""What the options accept, become, and say about a value that they refuse."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from conftest import PROJECT, Cli, write_digits

from pipeline.cli.commands import cli as commands
from pipeline.cli.options import OPTIONS, TRAIN
from pipeline.config import AUTO, OF_DATA, RECIPE, Config
from pipeline.trials.space import Bounds


def params(command: str, *arguments: str) -> dict[str, Any]:
    parent = click.Context(commands, **commands.context_settings)
    with commands.commands[command].make_context(command, list(arguments), parent) as context:
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
        ("run", ("--sigma", "25"), "variance", "0.00961169"),
        ("run", ("--sigma", "5:50"), "variance", "0.000384468:0.0384468"),
        ("evaluate", ("--sigma", "25"), "variance", "0.00961169"),
        ("sweep", ("--sigma", "15;25", "--sigma", "50"), "variance", ["0.00346021", "0.00961169", "0.0384468"]),
        ("blind", ("--sigma", "5:50"), "variance", ["0.000384468:0.0384468"]),
        ("run", ("--noise", "gaussian:variance=25"), "noise", "gaussian:variance=25"),
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
            (("run", "--variance", value), f"'--variance': '{value}' is not a number above 0 to 1,")
            for value in ("-1", "0", "nan", "inf", "abc", "")
        ),
        (("run", "--variance", "300"), "'--variance': '300' is not a number above 0 to 1,"),
        (("run", "--variance", "25"), "25 is more than 1, the range of the pixels; for a standard deviation of 25 out"),
        (
            ("run", "--variance", "5:50"),
            "out of 255 give --sigma 5:50, and for such a variance on purpose --noise gau",
        ),
        (("sweep", "--variance", "0.1;25"), "of 255 give --sigma 25, and for"),
        (("run", "--sigma", "0"), "'--sigma': '0' is not a number above 0 to 255"),
        (("run", "--sigma", "25", "--variance", "0.1"), "--sigma and --variance both say how strong the noise is"),
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


def test_what_is_typed_wins_over_the_strength_in_a_config_file(tmp_path: Path) -> None:
    cases: tuple[tuple[str, tuple[str, ...], str], ...] = (
        ("sigma: 25", (), "0.00961169"),
        ("sigma: 25", ("--variance", "0.02"), "0.02"),
        ("variance: 0.02", ("--sigma", "25"), "0.00961169"),
    )
    config = str(tmp_path / "config.yaml")
    for text, typed, wanted in cases:
        (tmp_path / "config.yaml").write_text(text)
        for words in ((*typed, "--config", config), ("--config", config, *typed)):
            assert params("run", *words)["variance"] == wanted


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


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", "images"),
        ("prepare", "--dataset", "images"),
        ("train", "--dataset", "images"),
        ("run", "--dataset", "images"),
        ("sweep", "--dataset", "images"),
        ("evaluate", "--dataset", "images", "--model", PROJECT / "artifacts" / "mnist-blind"),
        ("denoise", "images", "--output", "out"),
    ],
)
def test_black_above_white_is_a_wrong_option_everywhere(words: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    write_digits(tmp_path / "images", np.zeros((1, 28, 28), np.uint8))
    done = cli(*words, "--white", "10", "--black", "20")
    assert (done.code, done.err) == (2, "Error: --white 10 is not above --black 20\n")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
