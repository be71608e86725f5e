"""How a command ends: with one line for what went wrong, and an exit code.

0 done, 1 a failure, 2 a usage error, 3 a failed parity gate, 4 done but not all of it is in the tracking store, 130,
143 or 129 stopped by SIGINT, SIGTERM or SIGHUP.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any, NoReturn

import click

from pipeline import launcher
from pipeline.errors import PipelineError
from pipeline.launcher import in_mlflow_run, stop_with_launcher
from pipeline.signals import Stopped, install
from pipeline.tracking.spool import unsent

USAGE_ERROR, UNSENT = 2, 4  # exit codes; `PipelineError` and `Stopped` bring their own


class Commands(click.Group):
    """Ends a stage that fails with one line and the right exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        ctx.obj = {"debug": False}
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Exception as error:
            if ctx.obj["debug"]:
                traceback.print_exc()
            if isinstance(error, OSError) and error.strerror:
                message = f"{error.filename or 'the system'}: {error.strerror}"
            elif isinstance(error, PipelineError):
                message = str(error)
            else:
                hint = "" if ctx.obj["debug"] else " (--debug shows the traceback)"
                message = f"{type(error).__name__}: {error}{hint}"
            fail(" ".join(message.split()), error.exit_code if isinstance(error, PipelineError) else 1)


def run_to_exit(cli: Commands, words: list[str]) -> NoReturn:
    """Run the command line `words` of `cli`, and exit."""
    install()
    os.umask(os.umask(0o002) | 0o002)  # what is written here, not everybody may change
    if in_mlflow_run():
        stop_with_launcher()
    try:
        code = _invoke(cli, words)
    except SystemExit as end:
        code = end.code
    except Stopped as stopped:
        click.echo("; ".join([f"Stopped by {stopped.name}", *getattr(stopped, "__notes__", [])]), err=True)
        code = stopped.exit_code
        if run_id := os.environ.get("MLFLOW_RUN_ID"):  # made by `mlflow run`, and not opened yet
            from pipeline.tracking.store import end_run

            end_run(run_id, "KILLED")
    for line in unsent:
        click.echo(f"Tracking: {line}. Send them with: python -m pipeline doctor --fix", err=True)
    sys.exit(code or (UNSENT if unsent else 0))


def _invoke(cli: Commands, words: list[str]) -> Any:
    try:
        return cli.main(words, prog_name="denoise-pipeline", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE_ERROR
    except click.NoSuchOption as error:
        known = [option for parameter in error.ctx.command.params for option in parameter.opts] if error.ctx else []
        fail(f"{error.message} Allowed: {', '.join(sorted(known))}", USAGE_ERROR)
    except click.ClickException as error:
        fail(" ".join(error.format_message().split()), error.exit_code)


def fail(message: str, code: int) -> NoReturn:
    """Exit with one line."""
    if launcher.rank() == 0:  # which says it for all
        click.echo(f"Error: {message}", err=True)
    sys.exit(code)
