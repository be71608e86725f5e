"""How a command ends: one line, and a code that one function decides."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from conftest import environment, without

from pipeline.cli import exits
from pipeline.cli.commands import cli
from pipeline.cli.exits import ExitCode, code_of, run_to_exit, usage_errors
from pipeline.errors import ArgumentError, ParityError, PipelineError
from pipeline.signals import Stopped


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the signals of the process that runs the tests as they are."""
    monkeypatch.setattr(exits, "install", lambda: None)


def end(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        run_to_exit(cli, list(words), "denoise-pipeline")
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(("module", "command"), [("torch", "train"), ("mlflow", "evaluate"), ("onnx", "verify .")])
def test_a_package_that_is_missing_is_named_with_what_installs_it(module: str, command: str) -> None:
    done = without((module,), *command.split())
    said = f"Error: {module} is not installed, and this needs it; in a clone of the repository, run: pip install -e .\n"
    assert (done.code, done.out, done.err) == (1, "", said)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (click.UsageError("x"), 2),
        (click.BadParameter("x"), 2),
        (ArgumentError("x"), 2),
        (ParityError("x"), 3),
        (PipelineError("x"), 1),
        (OSError("x"), 1),
        (ZeroDivisionError("x"), 1),
        (Stopped(signal.SIGHUP), 129),
        (Stopped(signal.SIGINT), 130),
        (Stopped(signal.SIGTERM), 143),
    ],
)
def test_every_end_has_its_code(error: BaseException, code: int) -> None:
    assert code_of(error) == code
    assert code in list(ExitCode)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PipelineError("run 1: two\n  lines"), "Error: run 1: two lines"),
        (FileNotFoundError(2, "No such file", "x.png"), "Error: x.png: No such file"),
        (ZeroDivisionError("by 0"), "Error: ZeroDivisionError: by 0 (--debug shows the traceback)"),
        (Stopped(signal.SIGTERM), "Stopped by SIGTERM"),
    ],
)
def test_a_failure_is_one_line(
    error: BaseException, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("pipeline.cli.look_commands.describe_noises", fail)
    assert end("noises") == code_of(error)
    assert capsys.readouterr() == ("", f"{line}\n")
    end("noises", "--debug")
    traced = capsys.readouterr().err
    assert ("Traceback" in traced) == isinstance(error, Exception)
    assert "(--debug" not in traced


def test_results_that_were_not_sent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("pipeline.tracking.spool.unsent", ["run 1: 3 records are kept in data/runs/1"])
    assert end("noises") == 4
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("Tracking: run 1: 3 records are kept in data/runs/1. Send them with: ")
    assert end("noises", "--what") == 2  # a failure says more


def test_help_where_words_are_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert end() == 2
    assert "Commands" not in capsys.readouterr().out
    assert end("--version") == 0


@pytest.mark.parametrize(
    ("words", "near", "absent"),
    [
        (("train", "--varance", "1"), "No such option '--varance'. Did you mean '--variance'? Allowed: --", "--parent"),
        (("run", "--paren", "1"), "No such option '--paren'. ", "--parent,"),
        (("run", "--qqq", "1"), "No such option '--qqq'. Allowed: --", "--trial"),
        (("trian",), "No such command 'trian'. Did you mean 'train'?", "run"),
    ],
)
def test_a_mistyped_word(words: tuple[str, ...], near: str, absent: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert end(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Error: {near}")
    assert absent not in line


def test_what_is_wrong_with_options_is_a_usage_error() -> None:
    with pytest.raises(click.UsageError, match="sizes"), usage_errors():
        raise PipelineError("unet has no sizes")


NO_HOME = """
from pathlib import Path
from pipeline.cli.commands import main

def home():  # as Python has it for a user who has none, such as the bare number of one in a container
    raise RuntimeError("Could not determine home directory.")

Path.home = home
main(["compare"])
"""


def test_a_user_without_a_home_is_told_what_to_set(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_HOME], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "Error: this user has no home folder, which MLflow needs: set HOME to a folder that may be written to"
    )
