"""Opening the MLflow run that a stage writes to: a new one, one to add to, or one that was interrupted."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import ArgumentError, ParityError, QualityError
from pipeline.signals import Stopped
from pipeline.text import without_secrets
from pipeline.tracking import console, endings, names, store
from pipeline.tracking.environment import describe_environment
from pipeline.tracking.git import git_tags, source_diff
from pipeline.tracking.run import OpenRun
from pipeline.tracking.run_folder import lock_run
from pipeline.tracking.spool import Spool
from pipeline.tracking.system_metrics import system_metrics

_RANDOM_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")  # what MLflow calls a run that nobody named


@contextmanager
def start_run(config: Config, parent: str | None = None, trial: str = "") -> Iterator[OpenRun]:
    """Open a new run, or the one that `mlflow run` has made for this process, and log the config to it.

    It ends as FINISHED, as FAILED after an exception, as KILLED after a signal.

    Args:
        config: is logged.
        parent: id of the run that it becomes a child of.
        trial: name of the trial of the sweep `parent` that the run is; it becomes a tag.
    """
    with _start(config.run_name, config.data_dir, parent) as run:
        if trial:
            run.log_tags({names.TRIAL: trial})
        run.log_config(config)
        _log_surroundings(run)
        yield run


@contextmanager
def start_comparison(name: str, data_dir: str) -> Iterator[OpenRun]:
    """Open a run without a model of its own: a comparison, or the parent of others."""
    with _start(name, data_dir) as run:
        yield run


@contextmanager
def start_baseline(name: str, dataset: str, images: int, data_dir: str) -> Iterator[OpenRun]:
    """Open a run for a denoiser that is not trained, scored on the first `images` test images of `dataset`."""
    with _start(f"{name}-{images}-images", data_dir) as run:
        run.log_tags({names.DATASET: dataset, names.MODEL: name, names.TEST_IMAGES: str(images), **git_tags()})
        yield run


@contextmanager
def _start(name: str, data_dir: str, parent: str | None = None) -> Iterator[OpenRun]:
    client = store.connect(create=True)
    run_id = _take_project_run()
    with ExitStack() as stack:
        if run_id is None:
            place = _place(stack.enter_context(lock_run(data_dir)))
            run_id = store.create_run(name, {**place, **({names.PARENT: parent} if parent else {})})
        else:
            store.prepare_views(client.get_run(run_id).info.experiment_id)
        info = store.ask(f"run {run_id}", lambda: client.get_run(run_id)).info
        opened = False
        try:
            with _open(run_id, data_dir, ends=True, is_new=True) as run:
                opened = True
                if info.run_name is None or _RANDOM_NAME.fullmatch(info.run_name):
                    run.log_tags({names.RUN_NAME: name})
                yield run
        except BaseException as error:
            if not opened:
                endings.end_run(run_id, error)
            raise


def _place(folder: Path) -> dict[str, str]:
    """The tags by which whoever finds a run RUNNING can tell whether it is: the lock of `folder` is held."""
    return {names.HOST: socket.gethostname(), names.FOLDER: str(folder.resolve())}


@contextmanager
def project_run(data_dir: str) -> Iterator[OpenRun]:
    """Open the run that `mlflow run` has made for this process, for a stage that has no run of its own."""
    run_id = _take_project_run()
    assert run_id
    with _open(run_id, data_dir, ends=True, is_new=True) as run:
        yield run


def choose_experiment(name: str) -> str:
    """Have this process write to the experiment `name`, which is made if it is not there.

    Returns:
        The ID of the run that `mlflow run` has made for this process in another experiment, or "".
    """
    run_id = os.environ.get("MLFLOW_RUN_ID", "")
    own = store.ask(f"run {run_id}", lambda: store.connect().get_run(run_id)).info.experiment_id if run_id else ""
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    os.environ["MLFLOW_EXPERIMENT_NAME"] = name
    if own in ("", store.experiment_id(create=True)):
        return ""
    del os.environ["MLFLOW_RUN_ID"]
    return run_id


def refer(run_id: str, to: str) -> None:
    """Have the run `run_id` say that the results are in the run `to`."""
    note = f"Continues run {to}, which has the results."
    for key, value in {names.CONTINUES: to, names.NOTE: note}.items():
        store.ask(f"run {run_id}", partial(store.connect().set_tag, run_id, key, value))


def _take_project_run() -> str | None:
    """The ID of the run that `mlflow run` has made for this process, if any; the next who asks gets None.

    Raises:
        ArgumentError: it is over, or in another experiment than the environment names: nobody made it for this.
    """
    run_id = os.environ.pop("MLFLOW_RUN_ID", None)
    if run_id is None:
        return None
    info = store.ask(f"MLFLOW_RUN_ID: run {run_id}", lambda: store.connect().get_run(run_id)).info
    hint = "unset MLFLOW_RUN_ID to write to a new run"
    if info.status not in store.LIVING:
        raise ArgumentError(f"MLFLOW_RUN_ID: run {run_id} is {info.status}, and not to be written to; {hint}")
    if store.names_experiment() and info.experiment_id != store.experiment_id():
        raise ArgumentError(f"MLFLOW_RUN_ID: run {run_id} is not in the experiment that the environment names; {hint}")
    return run_id


@contextmanager
def continue_run(run_id: str, data_dir: str) -> Iterator[tuple[OpenRun, Config]]:
    """Open the run `run_id`, to add to it. Its status and its end do not change.

    Raises:
        PipelineError: there is no such run, or it was not made by this pipeline.
    """
    config = store.read_config(run_id)
    # Under `mlflow run`, MLflow has made a run for this process: it refers to the one with the results.
    if os.environ.get("MLFLOW_RUN_ID") == run_id:
        del os.environ["MLFLOW_RUN_ID"]
    own_run = _take_project_run()
    if own_run:
        refer(own_run, run_id)
    try:
        with _open(run_id, data_dir, ends=False) as run:
            yield run, config
    except (Exception, Stopped) as error:
        if own_run:
            endings.set_reason(own_run, error)
        raise


@contextmanager
def adopt_run(run_id: str, config: Config, parent: str) -> Iterator[OpenRun]:
    """Open the finished run `run_id`, to add to it; it becomes a child of the run `parent` if it has no parent."""
    with _open(run_id, config.data_dir, ends=False) as run:
        if run.tag(names.PARENT) is None:
            run.log_tags({names.PARENT: parent})
        yield run


@contextmanager
def resume_run(run_id: str, data_dir: str) -> Iterator[OpenRun]:
    """Open the interrupted run `run_id` again. It ends like one that was opened by `start_run`.

    Raises:
        ArgumentError: it is finished, or there is none.
    """
    client = store.connect()
    if store.ask(f"run {run_id}", lambda: client.get_run(run_id)).info.status == "FINISHED":
        raise ArgumentError(f"--resume {run_id}: that run is finished")
    os.environ.pop("MLFLOW_RUN_ID", None)
    with _open(run_id, data_dir, ends=True) as run:
        client.update_run(run_id, "RUNNING")
        endings.take_back(run)
        _log_surroundings(run)  # they may have changed, and it may have been killed before they were logged
        yield run


def _log_surroundings(run: OpenRun) -> None:
    """The machine, the packages, and what was changed in the source."""
    run.log_dict(describe_environment(), names.ENVIRONMENT)
    if diff := source_diff():
        run.log_text(without_secrets(diff), names.SOURCE_DIFF)


@contextmanager
def open_spool(folder: Path, run_id: str) -> Iterator[Spool]:
    """The spool of a run whose folder is locked."""
    from pipeline.tracking.to_mlflow import send  # imports onnx

    spool = Spool(folder, partial(send, run_id))
    try:
        yield spool
    finally:
        spool.close()


@contextmanager
def _open(run_id: str, data_dir: str, *, ends: bool, is_new: bool = False) -> Iterator[OpenRun]:
    with lock_run(data_dir, run_id) as folder, open_spool(folder, run_id) as spool:
        data = store.ask(f"run {run_id}", lambda: store.connect().get_run(run_id)).data
        run = OpenRun(run_id, folder, spool, data)
        with _printed(run, is_new):
            if ends:
                run.log_tags(_place(folder))
            try:
                with system_metrics(run_id, run.log_meanwhile) if ends else nullcontext():
                    yield run
            except BaseException as error:
                if ends:
                    run.end(endings.status_of(error), error)
                elif isinstance(error, (ParityError, QualityError)):  # others are about the command, not about the run
                    endings.tell(run, error)
                raise
            else:
                if ends:
                    run.end("FINISHED")
            finally:
                if not ends:
                    run.log_console()


@contextmanager
def _printed(run: OpenRun, is_new: bool) -> Iterator[None]:
    """Keep what is printed inside beside the run, behind what former processes have printed."""
    path = run.folder / names.CONSOLE
    if not is_new and not path.exists() and run.has_artifact(names.CONSOLE):  # it exists if a process was killed
        with run.artifact(names.CONSOLE) as former:
            shutil.copyfile(former, path)
    try:
        with console.follow(path):
            yield
    finally:
        path.unlink(missing_ok=True)
