"""How a command ends: with one line that says what went wrong, and an exit code.

The codes are decided here, but for those of `verify`, which also runs without the pipeline.
"""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

import click

from pipeline import launcher
from pipeline.cli.help import visible_options
from pipeline.errors import ArgumentError, ParityError, PipelineError, QualityError, one_line
from pipeline.launcher import in_mlflow_run, stop_with_launcher
from pipeline.signals import Stopped, install
from pipeline.text import say, shown
from pipeline.tracking.console import kept


class ExitCode(IntEnum):
    """What the exit code of a command says; after a signal it is 128 and the signal's number, as shells have it."""

    DONE = 0
    FAILURE = 1
    USAGE_ERROR = 2
    PARITY_FAILED = 3
    UNSENT = 4
    NOT_GOOD_ENOUGH = 5
    SIGHUP = 129
    SIGINT = 130
    SIGTERM = 143


MEANINGS = {
    ExitCode.DONE: "Done.",
    ExitCode.FAILURE: "Failed; the last line says why.",
    ExitCode.USAGE_ERROR: "Wrong option or argument, or there is nothing of that name; nothing was done.",
    ExitCode.PARITY_FAILED: "The proof of an exported file, or of a hand-off, failed.",
    ExitCode.UNSENT: "Done, but part of the results is not in the tracking store yet.",
    ExitCode.NOT_GOOD_ENOUGH: "The model is no better than doing nothing, or not as good as asked for.",
    ExitCode.SIGHUP: "Stopped by SIGHUP.",
    ExitCode.SIGINT: "Stopped by SIGINT (Ctrl-C).",
    ExitCode.SIGTERM: "Stopped by SIGTERM.",
}


def code_of(error: BaseException) -> int:
    """The exit code for what ended a command."""
    match error:
        case click.UsageError() | ArgumentError():
            return ExitCode.USAGE_ERROR
        case ParityError():
            return ExitCode.PARITY_FAILED
        case QualityError():
            return ExitCode.NOT_GOOD_ENOUGH
        case Stopped():
            return 128 + error.number
        case _:
            return ExitCode.FAILURE


def run_to_exit(cli: click.Group, words: list[str], prog_name: str) -> NoReturn:
    """Run the command line `words` of `cli`, and exit."""
    install()
    os.umask(os.umask(0o002) | 0o002)  # what is written here, not everybody may change
    if in_mlflow_run():
        stop_with_launcher()
    with kept(words):
        sys.exit(_run(cli, words, prog_name))


def _run(cli: click.Group, words: list[str], prog_name: str) -> int:
    """Run the command line, and say how it ended; the exit code."""
    state = {"debug": False}  # the option --debug sets it
    try:
        code = cli.main(words, prog_name=prog_name, standalone_mode=False, obj=state)
    except SystemExit as end:
        code = end.code
    except (Exception, Stopped) as error:
        if state["debug"] and not isinstance(error, Stopped):
            say(*traceback.format_exc().splitlines(), err=True)
        _say(error, state["debug"])
        code = code_of(error)
        _end_project_run(error, state["debug"])
    unsent = _unsent()
    for line in unsent:
        say(f"Tracking: {line}. Send them with: python -m pipeline doctor --fix", err=True)
    return code or (ExitCode.UNSENT if unsent else ExitCode.DONE)


def fail(message: str, code: int) -> NoReturn:
    """Exit with one line."""
    if launcher.rank() == 0:  # which says it for all
        say(f"Error: {message}", err=True)
    sys.exit(code)


@contextmanager
def usage_errors() -> Iterator[None]:
    """Inside, a `PipelineError` is about the options, and so a usage error."""
    try:
        yield
    except PipelineError as error:
        raise click.UsageError(str(error)) from error


def _say(error: BaseException, debug: bool) -> None:
    """Print the line that says what went wrong; where torchrun has started several processes, only the first does."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
    elif isinstance(error, Stopped):
        say("; ".join([f"Stopped by {error.name}", *getattr(error, "__notes__", [])]), err=True)
    elif launcher.rank() == 0:
        say(f"Error: {' '.join(_message(error, debug).split())}", err=True)


def _message(error: BaseException, debug: bool) -> str:
    match error:
        case click.NoSuchOption():
            known = sorted(visible_options(error.ctx.command)) if error.ctx else []
            # Without the hyphens, which make any two options alike.
            names = {option.lstrip("-"): option for option in known}
            nearest = difflib.get_close_matches(error.option_name.lstrip("-"), names, n=1)
            hint = f" Did you mean '{names[nearest[0]]}'?" if nearest else ""
            return f"{error.message}{hint} Allowed: {', '.join(known)}"
        case click.ClickException():
            return error.format_message()
        case ModuleNotFoundError(
            name=str(name)
        ):  # of the pipeline's own; what imports others' code has its own message
            package = name.partition(".")[0]
            return f"{package} is not installed, and this needs it; in a clone of the repository, run: pip install -e ."
        case PipelineError() | OSError() | RuntimeError(args=["Could not determine home directory."]):
            return one_line(error)
        case _:
            return one_line(error) + ("" if debug else " (--debug shows the traceback)")


def _unsent() -> list[str]:
    """A line for each run that was not sent to the tracking store in whole."""
    spool = sys.modules.get("pipeline.tracking.spool")  # only a command that opens a run imports it; --help does not
    return list(spool.unsent) if spool else []


def _end_project_run(error: BaseException, debug: bool) -> None:
    """End the run that `mlflow run` has made for this process, and that nothing has opened yet, with the reason."""
    if run_id := os.environ.get("MLFLOW_RUN_ID"):
        from pipeline.tracking.endings import end_run

        end_run(run_id, error, shown(" ".join(_message(error, debug).split())))
