"""The trials of a sweep: each is a `run` in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.models import parse_model
from pipeline.text import say
from pipeline.tracking import endings, names, queries, store
from pipeline.tracking.run import OpenRun
from pipeline.tracking.run_folder import in_use
from pipeline.verification.folder import MANIFEST

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

_LOOK_EVERY = 1.0  # seconds


@dataclass(frozen=True)
class Trial:
    """One `run` of a sweep."""

    name: str  # also of its hand-off folder
    group: str  # the same for trials that differ only in their seed
    config: Config


def trial_name(config: Config, swept: Mapping[str, Any]) -> str:
    """The name of the trial with this config, made unique by the options that differ between trials, `swept`."""
    extra = [f"{name}{value}" for name, value in swept.items() if name not in ("model", "size", "variance", "noise")]
    return names.metric_text("-".join([config.run_name, *extra])).replace(" ", "-")


@dataclass
class _Process:
    trial: Trial
    popen: subprocess.Popen[bytes]
    errors: Path
    is_pruned: bool = False


def run_trials(
    trials: Iterator[Trial],
    count: int,
    parent: OpenRun,
    jobs: int,
    artifacts_dir: str,
    on_end: Callable[[Trial, str | None], None] = lambda trial, run_id: None,
    is_hopeless: Callable[[MlflowRun], bool] | None = None,
    force: bool = False,
) -> dict[Trial, str | None]:
    """Run trials until there are no more, and print how each ends.

    A trial that has finished before is found by its fingerprint and not run again; one that was stopped resumes where
    it was.

    Args:
        trials: the next one is taken whenever fewer than `jobs` are running.
        count: how many there will be, at most.
        parent: the run of the sweep.
        jobs: how many run at a time; they share the processor's cores.
        artifacts_dir: where each trial's hand-off folder goes.
        on_end: called when a trial ends, with the ID of its run, or None if it failed.
        is_hopeless: whether to stop the trial with this run; asked once per second.
        force: run trials again that are finished.

    Returns:
        The ID of the run of each trial that succeeded; None for a trial that failed, which does not stop the others.
    """
    running: list[_Process] = []
    ends: dict[Trial, str | None] = {}
    last_look = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            while True:
                while len(running) < jobs and (trial := next(trials, None)):
                    running.append(_start(trial, Path(folder), parent.id, jobs, artifacts_dir, force))
                if not running:
                    return ends
                time.sleep(0.1)
                if is_hopeless and time.monotonic() - last_look > _LOOK_EVERY:
                    _prune(running, parent, is_hopeless)
                    last_look = time.monotonic()
                for process in [process for process in running if process.popen.poll() is not None]:
                    running.remove(process)
                    succeeded, end = _end(process, artifacts_dir)
                    ends[process.trial] = end if succeeded else None
                    on_end(process.trial, ends[process.trial])
                    say(f"trial {len(ends)} of {count}: {process.trial.name}: {'run ' if succeeded else ''}{end}")
        finally:
            for process in running:
                process.popen.terminate()
            for process in running:
                process.popen.wait()
            _end_dead(parent.id)


def _start(trial: Trial, folder: Path, parent: str, jobs: int, artifacts_dir: str, force: bool) -> _Process:
    parse_model(trial.config.model, trial.config.size)  # which refuses code that only a store names
    config_file = folder / f"{trial.name}.json"
    config_file.write_text(trial.config.to_json())
    resume = stopped_trials(parent).get(trial.name)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_RUN")}
    if jobs > 1:  # more threads than cores make torch slower, not faster
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    errors = folder / f"{trial.name}.err"  # a file, because a pipe that nobody reads blocks its writer
    with errors.open("wb") as stderr:
        popen = subprocess.Popen(
            [
                *(sys.executable, "-m", "pipeline", "run", "--parent", parent, "--trial", trial.name),
                *(("--resume", resume.info.run_id) if resume else ("--config", str(config_file))),
                *(
                    "--model",
                    trial.config.model,
                    "--data-dir",
                    trial.config.data_dir,
                    "--artifacts-dir",
                    artifacts_dir,
                    "--name",
                    trial.name,
                ),
                *("--force", str(force).lower()),
                "--allow-worse",  # the table of the sweep tells
            ],
            env={**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C reaches only this process, which passes it on
        )
    return _Process(trial, popen, errors)


def _end(process: _Process, artifacts_dir: str) -> tuple[bool, str]:
    """Whether the trial succeeded, and the ID of its run or the reason."""
    if process.popen.returncode == 0:
        manifest = Path(artifacts_dir) / process.trial.name / MANIFEST
        return True, json.loads(manifest.read_text())["mlflow_run_id"]
    if process.is_pruned:
        return False, "pruned: others did better"
    said = process.errors.read_text(errors="replace").strip().splitlines()
    return False, said[-1] if said else f"exit code {process.popen.returncode}"


def _prune(running: list[_Process], parent: OpenRun, is_hopeless: Callable[[MlflowRun], bool]) -> None:
    runs = {run.data.tags.get(names.TRIAL): run for run in queries.children(parent.id) if run.info.status == "RUNNING"}
    for process in running:
        run = runs.get(process.trial.name)
        if run and not process.is_pruned and is_hopeless(run):
            process.is_pruned = True
            store.connect().set_tag(run.info.run_id, names.PRUNED, "true")
            process.popen.terminate()


def stopped_trials(parent: str) -> dict[str, MlflowRun]:
    """The runs of the trials that were stopped and can be resumed, by the name of the trial; no pruned ones."""
    return {
        run.data.tags[names.TRIAL]: run
        for run in queries.children(parent)
        if {names.TRIAL, names.SEED} <= set(run.data.tags)  # with a config, so that it can be resumed
        and names.PRUNED not in run.data.tags
        and (run.info.status == "KILLED" or (run.info.status == "RUNNING" and not _is_alive(run)))
    }


def running_elsewhere(parent: str) -> set[str]:
    """The names of the trials that another process is running, possibly on another machine."""
    running = [run for run in queries.children(parent) if run.info.status == "RUNNING" and _is_alive(run)]
    return {run.data.tags.get(names.TRIAL, "") for run in running}


def _is_alive(run: MlflowRun) -> bool:
    """Whether a run that is marked as RUNNING really is; for other machines it cannot be checked, and is assumed."""
    tags = run.data.tags
    return tags.get(names.HOST) != socket.gethostname() or in_use(Path(tags[names.FOLDER]))


def _end_dead(parent: str) -> None:
    """Mark the trials that were killed, which they could not do themselves."""
    for run in queries.children(parent):
        if run.info.status == "RUNNING" and not _is_alive(run):
            endings.settle(run, is_resumable=names.SEED in run.data.tags)
