"""Which config a training has, and which MLflow run: a new one, the one to resume, or one that has done the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from pipeline import launcher
from pipeline.cli.options import DEFAULTS, TRAIN
from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.signals import Stopped

if TYPE_CHECKING:
    from pipeline.tracking.run import Run


def config_of(options: dict[str, Any]) -> Config:
    """The config that the options of a command make."""
    try:
        return Config.from_options(**options)
    except PipelineError as error:
        raise click.UsageError(str(error)) from error


def plan(resume: str, options: dict[str, Any]) -> tuple[Config, str]:
    """The config to train with, and the id of the run to resume, "" for none; the options must not contradict it."""
    if not resume:
        return _divided(config_of(options)), ""
    from pipeline.tracking import store

    run_id = resumed_run(resume)
    config = store.read_config(run_id)
    here = {"data_dir", "device"}  # may be others than before
    for name in set(TRAIN) - here:
        # `mlflow run` gives every option, so that one that has its default says nothing.
        if options[name] not in (DEFAULTS[name], getattr(config, name)):
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(
                f"{option} {options[name]}: run {run_id} was started with {option} {getattr(config, name)}"
            )
    config = replace(config, **{name: options[name] for name in here if options[name] != DEFAULTS[name]})
    return _divided(config), run_id


def _divided(config: Config) -> Config:
    """The config, if the processes that torchrun has started can share its batches out."""
    if config.batch_size % launcher.count():
        raise click.UsageError(
            f"--batch-size {config.batch_size}: torchrun has started {launcher.count()} processes; "
            f"a multiple of {launcher.count()} is needed"
        )
    return config


def resumed_run(resume: str) -> str:
    """The id of the run to resume, "" for none."""
    if resume != "true":
        return resume
    if "MLFLOW_RUN_ID" not in os.environ:
        raise click.UsageError("--resume true: that is for `mlflow run . --run-id RUN_ID -P resume=true`")
    return os.environ["MLFLOW_RUN_ID"]


@contextmanager
def open_run(config: Config, resume: str, force: bool, parent: str = "", trial: str = "") -> Iterator[Run]:
    """The run to train in: the one to resume, or a finished one that has trained the same, or a new one.

    The last two become children of the run `parent`, if it is given.
    """
    from pipeline.stages.train import find_trained
    from pipeline.tracking import opening

    found = None if resume or force else find_trained(config)
    if found and parent:
        with opening.adopt_run(found, config, parent) as run:
            yield run
        return
    if found:
        with opening.continue_run(found, config.data_dir) as (run, _):
            yield run
        return
    with (
        opening.resume_run(resume, config.data_dir)
        if resume
        else opening.start_run(config, parent or None, trial) as run
    ):
        try:
            yield run
        except Stopped as stopped:
            stopped.add_note(f"go on with: --resume {run.id}")
            raise
