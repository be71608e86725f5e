"""A group of what is logged to a run is there as a whole or not at all, whenever the process dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from mlflow.entities import RunData

from pipeline.errors import PipelineError
from pipeline.tracking import names
from pipeline.tracking.event_log import Event, EventLog
from pipeline.tracking.run import OpenRun
from pipeline.tracking.spool import Spool, unsent


def away(folder: Path, events: list[Event]) -> None:
    raise ConnectionError


def open_run(folder: Path) -> OpenRun:
    return OpenRun("0" * 32, folder, Spool(folder, away), RunData())


def log_result(run: OpenRun, die: bool) -> None:
    """What `evaluate` does."""
    with run.together():
        run.log_metrics({"test/psnr/0.01": 30.0}, step=7)
        run.log_figure(Figure(), "psnr")
        with run.together():
            run.log_dict({"psnr": 30.0}, names.EVALUATION)
            run.log_arrays({"clean": np.zeros(3)}, names.SAMPLES)
        if die:
            os.kill(os.getpid(), signal.SIGKILL)
        run.log_fingerprint("evaluate", {"lr": "1"})


@pytest.mark.parametrize("die", [True, False])
def test_a_killed_stage_has_logged_everything_or_nothing(die: bool, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        log_result(open_run(tmp_path), die)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    log = EventLog(tmp_path)
    assert len(log.groups) == (0 if die else 1)

    again = open_run(tmp_path)  # as the next command does
    assert again.metrics() == ({} if die else {"test/psnr/0.01": 30.0})
    assert again.is_done("evaluate", {"lr": "1"}) is not die
    if die:
        log_result(again, die=False)
    with again.artifact(names.EVALUATION) as path:
        assert "30.0" in path.read_text()
    (group,) = EventLog(tmp_path).groups
    assert [event["metrics"] for event in group if event.get("metrics")] == [{"test/psnr/0.01": 30.0}]
    assert {Path(event["file"]).name for event in group if event["kind"] == "artifact"} == {
        *("psnr.png", names.EVALUATION, names.SAMPLES, "evaluate.json")
    }


def log_half_of_it(run: OpenRun) -> None:
    with run.together():
        run.log_tags({names.WEIGHTS: "abc"})
        assert run.tag(names.WEIGHTS) == "abc"
        raise PipelineError


def test_a_group_that_fails_counts_for_nothing(tmp_path: Path) -> None:
    run = open_run(tmp_path)
    run.log_tags({"before": "yes"})
    with pytest.raises(PipelineError):
        log_half_of_it(run)
    assert (run.tag(names.WEIGHTS), run.tag("before")) == (None, "yes")
    run.log_tags({"after": "yes"})
    assert len(EventLog(tmp_path).groups) == 2


def test_a_full_disk_is_reported_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run(tmp_path)
    new_file = Spool.new_file

    def on_a_full_disk(spool: Spool, name: str) -> Path:
        path = new_file(spool, name)
        path.symlink_to("/dev/full")
        return path

    monkeypatch.setattr(Spool, "new_file", on_a_full_disk)
    with pytest.raises(PipelineError, match=r"cannot write .*/config\.json: No space left on device"):
        run.log_text("text", names.CONFIG)
    with pytest.raises(PipelineError, match=r"cannot write .*/psnr\.png: No space left on device"):
        run.log_figure(Figure(), "psnr")


@pytest.fixture(autouse=True)
def forget_unsent() -> None:
    unsent.clear()
