"""The commands that work on the store as a whole."""

from __future__ import annotations

import click

from pipeline.cli.help import Command
from pipeline.cli.options import with_options
from pipeline.cli.types import RUN_ID, Number

_SECTION = "Look after the store"  # the heading in the list of commands


@click.command(
    cls=Command,
    name="push",
    section=_SECTION,
    examples=["http://127.0.0.1:5000", "http://127.0.0.1:5000 RUN_ID"],
)
@click.argument("server")
@click.argument("runs", nargs=-1, type=RUN_ID)
@with_options("query")
def push_command(server: str, runs: tuple[str, ...], query: str) -> None:
    """Copy finished runs, with their models, to the MLflow SERVER.

    RUNS are their IDs; without any, all of the experiment are copied. What is there already is left alone, so the
    same command goes on where it was interrupted.
    """
    from pipeline.stages.push import push

    push(server, runs, query)


@click.command(
    cls=Command,
    name="tidy",
    section=_SECTION,
    examples=["", "--rule failed", "--rule all --older-than 90 --delete"],
)
@click.option(
    "--rule",
    type=click.Choice(("failed", "worse", "deleted", "all")),
    help="Runs to remove: those that failed or were killed; those with a model no better than doing nothing; those "
    "deleted in the UI, which keeps their files; all.",
)
@click.option(
    "--older-than", type=Number(float, 0, 100_000), default=0.0, show_default=True, help="Days since they were started."
)
@click.option("--delete", is_flag=True, help="Remove them; without this, tidy only says what it would remove.")
@with_options("data_dir", "artifacts_dir")
def tidy_command(rule: str | None, older_than: float, delete: bool, data_dir: str, artifacts_dir: str) -> None:
    """Say what runs, models and hand-offs take on disk, and remove what a rule names.

    What is registered under any name, and so every champion and whatever an alias points to, is never removed.
    """
    from pipeline.stages.tidy import tidy

    if delete and not rule:
        raise click.UsageError("--delete needs a --rule that says what to remove")
    tidy(data_dir, artifacts_dir, rule or "", older_than, delete)


STORE_COMMANDS = (push_command, tidy_command)
