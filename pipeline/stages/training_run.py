"""The MLflow run to train in: a finished one that has trained the same, one to resume, or a new one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.config import Config
from pipeline.signals import noting
from pipeline.stages.train import find_trained
from pipeline.tracking import endings, opening
from pipeline.tracking.run import OpenRun


@contextmanager
def open_training(
    config: Config, force: bool = False, resumed: str = "", parent: str = "", trial: str = ""
) -> Iterator[OpenRun]:
    """The run to train in.

    Args:
        config: settled.
        force: do not take a finished run.
        resumed: ID of the interrupted run to resume; "" for none.
        parent: ID of the run of the sweep that the run becomes a child of; "" for none.
        trial: name of the trial in that sweep.
    """
    found = None if resumed or force else find_trained(config)
    if found and parent:
        with opening.adopt_run(found, config, parent) as run:
            yield run
    elif found:
        with opening.continue_run(found, config.data_dir) as (run, _):
            yield run
    else:
        opened = (
            opening.resume_run(resumed, config.data_dir)
            if resumed
            else opening.start_run(config, parent or None, trial)
        )
        with opened as run, noting(lambda: f"resume with: {endings.resumption(run.tag, run.id)}"):
            yield run
