"""The commands that train many models: sweep, search, and blind and unet, which are sweeps with values of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import click

from pipeline.cli.exits import usage_errors
from pipeline.cli.help import Command
from pipeline.cli.options import SWEPT, TRAIN, with_options
from pipeline.cli.training_plan import open_parent
from pipeline.cli.types import SearchValues, Values
from pipeline.config import REFERENCE_VARIANCES
from pipeline.errors import PipelineError
from pipeline.noise import parse_variance

_SECTION = "Train many"  # the heading in the list of commands


def _with_sweep_options(
    without: Collection[str] = (), defaults: Mapping[str, Any] | None = None, **more_help: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Attach the options of `sweep` to a command, except those that it sets itself."""
    return with_options(
        *(name for name in TRAIN if name not in without),
        *("seeds", "jobs", "resume", "force", "artifacts_dir", "quiet"),
        several=Values,
        defaults=defaults,
        resume="ID of the run of an interrupted sweep to resume.",
        force="Run finished trials again.",
        **more_help,
    )


@click.command(
    cls=Command,
    name="sweep",
    section=_SECTION,
    examples=['--variance "0.001;0.01;0.1" --model "autoencoder;unet" --seeds 3 --jobs 2'],
)
@_with_sweep_options()
def sweep_command(seeds: int, jobs: int, resume: str, force: bool, artifacts_dir: str, **options: Any) -> None:
    """Run every combination of options that are given several values.

    Several values are separated by semicolons, or given by repeating the option. Finished trials are not run again,
    so the same command continues a sweep that was interrupted.
    """
    _sweep("sweep", options, seeds, jobs, resume, force, artifacts_dir)


@click.command(
    cls=Command,
    name="search",
    section=_SECTION,
    examples=['--trials 20 --lr 0.001:0.03 --optimizer "adam;soap" --jobs 2'],
)
@with_options(
    *(*TRAIN, "method", "trials", "jobs", "resume", "artifacts_dir", "quiet"),
    several=SearchValues,
    resume="ID of the run of an interrupted search to resume.",
)
def search_command(method: str, trials: int, jobs: int, resume: str, artifacts_dir: str, **options: Any) -> None:
    """Search for the options with the lowest loss on the validation images.

    Optuna chooses each trial: among several values, separated by semicolons, or in an interval LOW:HIGH of a number.
    Trials that do worse than the median of the others are stopped early.
    """
    from pipeline.stages.search import search
    from pipeline.trials.space import space_of

    values = _value_lists(options)
    with usage_errors():
        space = space_of(values)
    with open_parent(f"search-{method}", trials, resume, options["data_dir"]) as run:
        search(values, space, method, trials, run, jobs, artifacts_dir)


@click.command(cls=Command, name="blind", section=_SECTION, examples=["", "--variance 0.001:0.05 --size s"])
@_with_sweep_options(
    without=("noise",),
    defaults={"variance": "0.0005:0.1", "model": "resunet"},
    variance="Range LOW:HIGH of the variance to train blind over; one is drawn per image.",
)
def blind_command(
    seeds: int, jobs: int, resume: str, force: bool, artifacts_dir: str, variance: list[str], **options: Any
) -> None:
    """Train one model over a range of noise levels, and a specialist for each level.

    A sweep over --variance: the range, and each of the reference levels.
    """
    if all(parse_variance(text).is_number for text in variance):
        raise click.UsageError(f"--variance {';'.join(variance)}: blind training needs a range LOW:HIGH")
    levels = dict.fromkeys([*variance, *(f"{level:g}" for level in REFERENCE_VARIANCES)])
    swept = {**options, "noise": ["gaussian"], "variance": [*levels]}
    _sweep("blind", swept, seeds, jobs, resume, force, artifacts_dir)


@click.command(cls=Command, name="unet", section=_SECTION, examples=["", "--epochs 2 --jobs 3"])
@_with_sweep_options(without=("model", "size"), defaults={"epochs": "10"})
def unet_command(seeds: int, jobs: int, resume: str, force: bool, artifacts_dir: str, **options: Any) -> None:
    """Train the autoencoder and the U-Nets alike, for the same number of epochs.

    A sweep over --model: autoencoder, unet and resunet.
    """
    swept = {**options, "model": ["autoencoder", "unet", "resunet"], "size": [""]}
    _sweep("unet", swept, seeds, jobs, resume, force, artifacts_dir)


def _sweep(
    name: str, options: Mapping[str, Any], seeds: int, jobs: int, resume: str, force: bool, artifacts_dir: str
) -> None:
    from pipeline.stages.prepare import prepare
    from pipeline.stages.sweep import sweep
    from pipeline.trials.grid import grid

    with usage_errors():
        trials = grid(_value_lists(options), seeds)
    data = prepare(trials[0].config)  # once, instead of by all at the same time
    trials = grid(_value_lists(options), seeds, data.facts)
    with open_parent(name, len(trials), resume, options["data_dir"]) as run:
        if not sweep(trials, run, jobs, artifacts_dir, force):
            raise PipelineError(f"some trials failed; the same command with --resume {run.id} runs them again")


def _value_lists(options: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values of every option in `TRAIN`, also of those that take only one."""
    return {name: options[name] if name in SWEPT else [options[name]] for name in TRAIN}


SWEEP_COMMANDS = (sweep_command, search_command, blind_command, unet_command)
