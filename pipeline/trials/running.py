"""The trials of a sweep: each is a `run` in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
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
# On Linux, trials are forked from a process that has imported what takes a `run` as long as a small training does. A
# name that a later version of a package no longer has is passed over there, and imported by each trial.
if sys.platform == "linux":
    _PROCESSES = multiprocessing.get_context("forkserver")
else:
    _PROCESSES = multiprocessing.get_context("spawn")
_PROCESSES.set_forkserver_preload(
    [
        *("matplotlib.figure", "mlflow.onnx", "mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store"),
        *("onnxruntime", "onnxscript.function_libs.torch_lib.ops", "torch._dynamo", "torch._functorch.aot_autograd"),
        *("torch.onnx._internal.exporter._core", "pipeline.cli.commands"),
    ]
)


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
class _Running:
    trial: Trial
    process: BaseProcess
    errors: Path  # what it says on stderr
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
    running: list[_Running] = []
    ends: dict[Trial, str | None] = {}
    if jobs > 1:  # more threads than cores make torch slower, not faster
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    last_look = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            while True:
                while len(running) < jobs and (trial := next(trials, None)):
                    running.append(_start(trial, Path(folder), parent.id, artifacts_dir, force))
                if not running:
                    return ends
                time.sleep(0.1)
                if is_hopeless and time.monotonic() - last_look > _LOOK_EVERY:
                    _prune(running, parent, is_hopeless)
                    last_look = time.monotonic()
                for one in [one for one in running if one.process.exitcode is not None]:
                    running.remove(one)
                    succeeded, end = _end(one, artifacts_dir)
                    ends[one.trial] = end if succeeded else None
                    on_end(one.trial, ends[one.trial])
                    say(f"trial {len(ends)} of {count}: {one.trial.name}: {'run ' if succeeded else ''}{end}")
        finally:
            for one in running:
                one.process.terminate()
            for one in running:
                one.process.join()
            _end_dead(parent.id)


def _start(trial: Trial, folder: Path, parent: str, artifacts_dir: str, force: bool) -> _Running:
    parse_model(trial.config.model, trial.config.size)  # which refuses code that only a store names
    config_file = folder / f"{trial.name}.json"
    config_file.write_text(trial.config.to_json())
    resume = stopped_trials(parent).get(trial.name)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_RUN")}
    errors = folder / f"{trial.name}.err"  # a file, because a pipe that nobody reads blocks its writer
    errors.touch()
    words = [
        *("run", "--parent", parent, "--trial", trial.name),
        *(("--resume", resume.info.run_id) if resume else ("--config", str(config_file))),
        *("--model", trial.config.model, "--data-dir", trial.config.data_dir),
        *("--artifacts-dir", artifacts_dir, "--name", trial.name),
        *("--force", str(force).lower()),
        "--allow-worse",  # the table of the sweep tells
    ]
    process = _PROCESSES.Process(target=_run, args=(words, environment, errors), name=trial.name)
    process.start()
    return _Running(trial, process, errors)


def _run(words: Sequence[str], environment: Mapping[str, str], errors: Path) -> None:
    """What `python -m pipeline` does with these words; in a process of its own."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C reaches only the sweep, which passes it on
    os.environ.clear()
    os.environ.update(environment)
    for path, descriptor in ((os.devnull, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY), descriptor)
    sys.argv[1:] = words
    runpy.run_module("pipeline", run_name="__main__", alter_sys=True)


def _end(one: _Running, artifacts_dir: str) -> tuple[bool, str]:
    """Whether the trial succeeded, and the ID of its run or the reason."""
    if one.process.exitcode == 0:
        manifest = Path(artifacts_dir) / one.trial.name / MANIFEST
        return True, json.loads(manifest.read_text())["mlflow_run_id"]
    if one.is_pruned:
        return False, "pruned: others did better"
    said = one.errors.read_text(errors="replace").strip().splitlines()
    return False, said[-1] if said else f"exit code {one.process.exitcode}"


def _prune(running: list[_Running], parent: OpenRun, is_hopeless: Callable[[MlflowRun], bool]) -> None:
    runs = {run.data.tags.get(names.TRIAL): run for run in queries.children(parent.id) if run.info.status == "RUNNING"}
    for one in running:
        run = runs.get(one.trial.name)
        if run and not one.is_pruned and is_hopeless(run):
            one.is_pruned = True
            store.connect().set_tag(run.info.run_id, names.PRUNED, "true")
            one.process.terminate()


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
            endings.settle(run, endings.is_resumable(run.data.tags.get))
