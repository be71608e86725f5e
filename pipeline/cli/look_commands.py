"""The commands that only look: at a folder of images, at the networks, at the kinds of noise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from pipeline.cli.exits import ExitCode
from pipeline.cli.help import Command
from pipeline.cli.options import with_options
from pipeline.config import Config
from pipeline.noise import describe_noises
from pipeline.text import say

_SECTION = "Look around"  # the heading in the list of commands
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(
    "inspect",
    cls=Command,
    section=_SECTION,
    examples=["my-photos", "my-photos --noisy my-noisy-photos --output inspection"],
)
@click.argument("folder", type=_FOLDER)
@with_options(
    *("noisy", "group", "channels", "white", "black", "output"),
    defaults={"output": "inspection"},
    noisy="Folder of the noisy images whose clean ones are in FOLDER, by equal names.",
    output="Folder for the page.",
)
def inspect_command(folder: Path, output: str, **options: Any) -> None:
    """Say what is in a FOLDER of images before anything is trained: layout, values, noise, faults; and what to run.

    Nothing is prepared. The exit code is 1 if prepare would refuse the folder.
    """
    from pipeline.stages.inspect import inspect

    if not inspect(Config(dataset=str(folder), **options), Path(output)):
        sys.exit(ExitCode.FAILURE)


@click.command("models", cls=Command, section=_SECTION, examples=["--channels 3"])
@with_options("channels", defaults={"channels": 1})
def models_command(channels: int) -> None:
    """List the networks: parameters, cost and receptive field of each."""
    from pipeline.models.facts import describe_models

    say(*describe_models(channels).splitlines())


@click.command("noises", cls=Command, section=_SECTION, examples=[""])
@with_options()
def noises_command() -> None:
    """List the kinds of noise, with their parameters and where these come from."""
    say(*describe_noises().splitlines())


LOOK_COMMANDS = (inspect_command, models_command, noises_command)
