"""What to train, and in which MLflow run: a new one, one to resume, or a finished one that has trained the same."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pipeline import launcher
from pipeline.cli.exits import usage_errors
from pipeline.cli.options import HANDOFF, OPTIONS, TRAIN, flag_of
from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.files import parse_json
from pipeline.models import parse_model
from pipeline.signals import noting
from pipeline.spec import unknown
from pipeline.tracking import console

if TYPE_CHECKING:
    from pipeline.data.prepared import PreparedData
    from pipeline.tracking.run import OpenRun

_OF_THIS_MACHINE = ("data_dir", "device")  # a resumed run may have others than before


@dataclass(frozen=True)
class TrainingPlan:
    """A training that the command line asks for."""

    config: Config
    resumed: str = ""  # the ID of the run to resume

    @classmethod
    def of(cls, options: Mapping[str, Any], resume: str) -> TrainingPlan:
        """From the options in `TRAIN`, and the value of `--resume`.

        Raises:
            click.UsageError: options that do not go together, or contradict those of the run to resume.
            PipelineError: there is no such run.
        """
        if resume:
            run_id = resumed_run(resume)
            plan = cls(_resumed_config(run_id, options), run_id)
            parse_model(plan.config.model, plan.config.size)  # which refuses code that only the run names
        else:
            with usage_errors():
                plan = cls(Config(**options))
        if launcher.count() > 1:
            _check_shareable(plan.config, launcher.count())
        return plan

    def settled(self, data: PreparedData) -> TrainingPlan:
        """The plan with what follows from the data; a resumed run has that already.

        Raises:
            click.UsageError: the options do not fit the data.
        """
        from pipeline.stages.settle import settle

        if self.resumed:
            return self
        with usage_errors():
            return replace(self, config=settle(self.config, data))

    def handoff_options(self, run: OpenRun, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options in `HANDOFF`; those that a resumed run is not given are what it was started with."""
        from pipeline.tracking import names

        stored = _handoff_options_of(run) if self.resumed else {}
        asked = {**given, **stored, **{key: value for key, value in given.items() if value != OPTIONS[key].default}}
        run.log_tags({names.HANDOFF_OPTIONS: json.dumps(asked)})
        return asked

    @contextmanager
    def open_run(
        self, force: bool, parent: str = "", trial: str = "", experiment: str = "", tags: Iterable[tuple[str, str]] = ()
    ) -> Iterator[OpenRun]:
        """The run to train in. A run that is not resumed becomes a child of the run `parent`, if that is given.

        Args:
            force: do not take a finished run that has trained the same.
            parent: ID of the run of a sweep.
            trial: name of the trial in that sweep.
            experiment: its name; "" for the one that the environment names.
            tags: of the user's own.
        """
        from pipeline.stages.training_run import open_training
        from pipeline.tracking import opening

        empty = opening.choose_experiment(experiment) if experiment else ""
        with open_training(self.config, force, self.resumed, parent, trial) as run:
            if empty:
                opening.refer(empty, run.id)
            run.log_tags(dict(tags))
            yield run


@contextmanager
def open_parent(kind: str, trials: int, resume: str, data_dir: str) -> Iterator[OpenRun]:
    """The run whose children are the trials of a sweep of some kind: a new one, or the one to resume."""
    from pipeline.tracking import endings, names, opening

    run_id = resumed_run(resume)
    new = opening.start_comparison(f"{kind}-{trials}-trials", data_dir)
    opened = opening.resume_run(run_id, data_dir) if run_id else new
    with opened as run, noting(lambda: f"resume with: {endings.resumption(run.tag, run.id)}"):
        run.log_tags({names.TRIALS: str(trials)})
        yield run
    console.say_result("", run.id)


def resumed_run(resume: str) -> str:
    """The ID of the run that the value of `--resume` stands for, "" for none."""
    if resume != "true":
        return resume
    if "MLFLOW_RUN_ID" not in os.environ:
        raise click.UsageError("--resume true works only under `mlflow run . --run-id RUN_ID -P resume=true`")
    return os.environ["MLFLOW_RUN_ID"]


def _check_shareable(config: Config, processes: int) -> None:
    """Check that several processes can train together by this config."""
    from pipeline.models import build_model
    from pipeline.training.devices import choose_device
    from pipeline.training.distributed import check_batch_norm

    if config.batch_size % processes:
        raise click.UsageError(
            f"--batch-size {config.batch_size} is not a multiple of {processes}, the number of processes that "
            "torchrun has started"
        )
    device = choose_device(config.device)
    with usage_errors():
        check_batch_norm(build_model(config.model, config.size), device)


def _resumed_config(run_id: str, options: Mapping[str, Any]) -> Config:
    """The config that the run was started with, on this machine; the options must not contradict it."""
    from pipeline.tracking import store

    config = store.read_config(run_id)
    given = {name: options[name] for name in TRAIN if _is_given(name, options[name])}
    for name, value in given.items():
        is_filled_in = name == "noise" and config.noise.startswith(f"{value}:sigma=")  # the level was estimated
        if name not in _OF_THIS_MACHINE and value != getattr(config, name) and not is_filled_in:
            option = flag_of(name)
            raise click.UsageError(f"{option} {value}: run {run_id} was started with {option} {getattr(config, name)}")
    return replace(config, **{name: given[name] for name in _OF_THIS_MACHINE if name in given})


def _is_given(name: str, value: object) -> bool:
    """Whether the user gave this value of an option. `mlflow run` gives every option, so a default is none there."""
    source = click.get_current_context().get_parameter_source(name)
    is_typed = source is ParameterSource.COMMANDLINE and not launcher.in_mlflow_run()
    return is_typed or value != OPTIONS[name].default


def _handoff_options_of(run: OpenRun) -> dict[str, Any]:
    """What a run was started with, checked like the command line: whoever can write to the store can change it."""
    from pipeline.tracking import names

    try:
        stored = parse_json(run.tag(names.HANDOFF_OPTIONS) or "{}")
        for key in stored.keys() - set(HANDOFF):
            raise unknown("option", key, HANDOFF)
        return {key: OPTIONS[key].type.convert(value, None, None) for key, value in stored.items()}
    except click.BadParameter as error:
        reason = error.message
    except (AttributeError, TypeError, ValueError, PipelineError) as error:
        reason = str(error)
    raise PipelineError(f"run {run.id}: its tag {names.HANDOFF_OPTIONS} cannot be used: {reason}")
