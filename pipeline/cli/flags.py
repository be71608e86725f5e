"""Options that say nothing about a run, and so are no parameters of `mlflow run`."""

from __future__ import annotations

import click

from pipeline.text import quietly


def _set_quiet(context: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        context.with_resource(quietly(warns=False))


FLAGS = {
    "quiet": click.option(
        "--quiet",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_set_quiet,
        help="Print nothing but errors, and in the end the ID of the run.",
    ),
    "dry_run": click.option(
        "--dry-run", is_flag=True, help="Print the config and which stages would run, and why; write nothing."
    ),
}
