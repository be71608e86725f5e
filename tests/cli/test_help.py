"""--help: every option is explained in whole, under a heading; every example is a command line that is accepted."""

from __future__ import annotations

import re
import shlex

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner
from conftest import PROJECT

from pipeline.cli.commands import cli
from pipeline.cli.exits import MEANINGS
from pipeline.cli.help import Command, summary
from pipeline.cli.options import OPTIONS, SWEPT, TRAIN


def said(*arguments: str) -> str:
    done = CliRunner().invoke(cli, [*arguments, "--help"], terminal_width=80)
    assert done.exit_code == 0, done.output
    return done.output


def commands() -> list[Command]:
    found = [command for command in cli.commands.values() if isinstance(command, Command)]
    assert len(found) == len(cli.commands)
    return found


def test_every_command_is_listed_with_its_whole_summary() -> None:
    page = " ".join(said().split())
    for command in commands():
        assert f"{command.name} {summary(command)}" in page
        assert summary(command).endswith(".")
    assert "..." not in said().partition("Options:")[2]


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)
def test_a_page_explains_every_option(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    page = said(command.name or "")
    body, _, examples = page.partition("Example")
    assert max(len(line) for line in body.splitlines()) <= 80
    assert "[|" not in page
    assert "()" not in page
    for param in command.params:
        if not isinstance(param, click.Option):
            continue
        text = param.help or ""
        assert re.match(r"[A-Z]", text)
        assert text.endswith(".")
        assert not text.startswith(("Of ", "What ", "Where ", "How ", "If ", "The ", "To "))  # a noun or a verb
        assert bool(re.search(rf"\n  {param.opts[0]}[ ,]", page)) != param.hidden, param.name

    monkeypatch.chdir(PROJECT)
    assert command.examples
    for example in command.examples:
        assert example in examples
        words = [word.replace("RUN_ID", "0" * 32).replace("my-photos", "docs") for word in shlex.split(example)]
        command.make_context(command.name, words)


def test_options_stand_under_headings() -> None:
    page = said("run")
    headings = re.findall(r"^(\S.*):$", page, re.MULTILINE)
    assert headings == ["Data", "Noise", "Model", "Training", "Tracking", "Hand-off", "Options", "Examples"]
    training = page.partition("\nTraining:\n")[2].partition("\nTracking:\n")[0]
    assert "--epochs INTEGER" in training
    assert "--register" not in training
    headings = re.findall(r"^(\S.*):$", said("compare"), re.MULTILINE)
    assert headings == ["Options", "Examples"]  # a few options need no more


def test_defaults_are_said_as_one_types_them() -> None:
    page = " ".join(said("blind").split())
    assert re.search(r"--variance VARIANCE;… .*?\[default: 0\.0005:0\.1\]", page)
    assert re.search(r"--clip-input \[true\|false\];… .*?\[default: false\]", page)
    assert "--method [tpe|random]" in said("search")


def test_every_option_is_one_record() -> None:
    assert set(SWEPT) < set(TRAIN) <= set(OPTIONS)


def test_exit_codes_are_documented() -> None:
    page = (PROJECT / "docs" / "command-line.md").read_text()
    codes = dict(re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE))
    assert codes == {str(int(code)): text for code, text in MEANINGS.items()}
    for code, text in MEANINGS.items():
        assert re.search(rf"^ +{int(code)}  {re.escape(text)}$", said(), re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "incomplete", "completed"),
    [
        ([], "se", {"search"}),
        (["search"], "--met", {"--method"}),
        (["search", "--method"], "", {"tpe", "random"}),
        (["sweep", "--optimizer"], "a", {"auto", "adam"}),
        (["run", "--clip-input"], "", {"true", "false"}),
        (["run", "--dataset"], "km", {"kmnist"}),
        (["run"], "--par", set()),  # hidden
    ],
)
def test_a_shell_completes(words: list[str], incomplete: str, completed: set[str]) -> None:
    shell = BashComplete(cli, {}, "denoise-pipeline", "_DENOISE_PIPELINE_COMPLETE")
    assert {item.value for item in shell.get_completions(words, incomplete)} == completed


def test_the_page_names_the_variable_that_completes() -> None:
    page = (PROJECT / "docs" / "command-line.md").read_text()
    assert set(re.findall(r"_DENOISE_PIPELINE_COMPLETE=(\w+)_source denoise-pipeline", page)) == {"bash", "zsh", "fish"}
