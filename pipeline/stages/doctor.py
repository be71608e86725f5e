"""Find what is wrong with the environment, the store, the runs and the folders, and repair what can be repaired safely.

A check is a function here, and an entry in `CHECKS`.
"""

from __future__ import annotations

import configparser
import shutil
import socket
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.sources import DATASETS
from pipeline.errors import PipelineError, counted, one_line
from pipeline.files import finish_folder, unfinished_folders
from pipeline.models import MODELS
from pipeline.noise import NOISES
from pipeline.plugins import Table
from pipeline.text import say
from pipeline.tracking import endings, names, queries, store
from pipeline.tracking.database import DatabaseError, open_database
from pipeline.tracking.opening import open_spool
from pipeline.tracking.run_folder import in_use, is_empty, lock_run, remove_empty
from pipeline.tracking.spool import count_unsent, knows_end

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

_FREE = 2**30  # bytes that a run and its hand-off may need
_OLD = 3600  # seconds after which a run that `mlflow run` has created should have begun


@dataclass(frozen=True)
class Problem:
    """Something wrong, and how to fix it."""

    what: str
    fix: Callable[[], str] | None = None  # fixes it, and returns what it did


@dataclass(frozen=True)
class Folders:
    """Where to look."""

    data: Path
    artifacts: Path


def examine(data_dir: str, artifacts_dir: str, fix: bool) -> bool:
    """Print what every check finds, fix it if `fix` says so, and return whether all is well now."""
    folders = Folders(Path(data_dir), Path(artifacts_dir))
    well = True
    for name, check in CHECKS.items():
        problems = _problems(check, folders)
        for problem in problems:
            if problem.fix is None:
                say(f"{name}: {problem.what}")
                well = False
            elif not fix:
                say(f"{name}: {problem.what} [--fix repairs it]")
                well = False
            else:
                try:
                    say(f"{name}: {problem.what}: fixed, {problem.fix()}")
                except Exception as error:
                    say(f"{name}: {problem.what}: not fixed, {one_line(error)}")
                    well = False
        if not problems:
            say(f"{name}: ok")
    return well


def _problems(check: Callable[[Folders], Iterator[Problem]], folders: Folders) -> list[Problem]:
    """What a check finds; that it could not go on is a problem, too, and whatever the error, the other checks go on."""
    problems: list[Problem] = []
    try:
        for problem in check(folders):
            problems.append(problem)
    except Exception as error:
        problems.append(Problem(f"not checked: {one_line(error)}"))
    return problems


def _check_packages(folders: Folders) -> Iterator[Problem]:
    """The pinned versions are installed."""
    for requirement in _requirements():
        name, _, pinned = requirement.partition("==")
        name = name.split(">")[0].split("<")[0].split("[")[0].strip()
        try:
            installed = version(name)
        except PackageNotFoundError:
            yield Problem(f"{name} is not installed; {requirement} is required")
            continue
        if pinned and installed.partition("+")[0] != pinned:
            yield Problem(f"{name} {installed} is installed; the project was tested with {pinned}")


def _requirements() -> list[str]:
    path = Path(__file__).parents[2] / "setup.cfg"
    if path.is_file():  # a checkout
        parser = configparser.ConfigParser()
        parser.read(path)
        return parser["options"]["install_requires"].split("\n")[1:]
    return [entry for entry in requires("denoise-pipeline") or [] if "extra ==" not in entry]


def _check_plugins(_: Folders) -> Iterator[Problem]:
    from pipeline.scoring.metrics import METRICS  # imports torch

    tables: tuple[Table[Any], ...] = (MODELS, NOISES, DATASETS, METRICS)
    for table in tables:
        for name in table.registered:
            try:
                table[name]
            except PipelineError as error:
                yield Problem(str(error))


def _check_disk(folders: Folders) -> Iterator[Problem]:
    """The folders can be written to, and the disk has space left."""
    database = store.database_file()
    for folder in dict.fromkeys([folders.data, folders.artifacts, *([database.absolute().parent] if database else [])]):
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
        try:
            with tempfile.TemporaryFile(dir=existing) as file:
                file.write(b"x")
                file.flush()
        except OSError as error:
            yield Problem(f"{existing} cannot be written to: {error.strerror}")
            continue
        if (free := shutil.disk_usage(existing).free) < _FREE:
            yield Problem(f"{existing} has {free / 2**20:,.0f} MiB left; {_FREE / 2**20:,.0f} MiB should be free")


def _check_store(folders: Folders) -> Iterator[Problem]:
    """The store answers; a database is not damaged, and has the schema of this MLflow."""
    if not store.is_there():
        return  # the first run makes it
    if (database := store.database_file()) is not None:
        try:
            with open_database(database) as connection:
                (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            answer = str(error)
        if answer != "ok":
            yield Problem(f"{database} is damaged: {answer}")
            return
    try:
        store.connect()
    except DatabaseError as error:
        yield Problem(error.problem, error.fix)
    except PipelineError as error:
        yield Problem(str(error))


def _check_unsent(folders: Folders) -> Iterator[Problem]:
    """Records of runs that the store does not have yet."""
    for folder in sorted((folders.data / "runs").glob("*/")):
        if (count := count_unsent(folder)) and not in_use(folder):
            yield Problem(
                f"{counted(count, 'record')} of run {folder.name} not yet in the store, but in {folder}",
                partial(_send, folder),
            )


def _send(folder: Path) -> str:
    with lock_run(str(folder.parent.parent), folder.name), open_spool(folder, folder.name) as spool:
        if not spool.flush():
            raise PipelineError(f"the store did not take them: {spool.reason}")
    return "sent"


def _check_running(folders: Folders) -> Iterator[Problem]:
    """Runs with the status RUNNING whose process is gone."""
    for run in queries.all_runs("attributes.status = 'RUNNING'"):
        tags, run_id = run.data.tags, run.info.run_id
        if names.FOLDER in tags and tags.get(names.HOST) != socket.gethostname():
            yield Problem(
                f"run {run_id} has the status RUNNING on {tags.get(names.HOST)}; run `doctor` there to check it"
            )
        elif names.FOLDER in tags:
            folder = Path(tags[names.FOLDER])  # of another name, where the store has no record of the run yet
            if in_use(folder) or knows_end(folder.with_name(run_id)):
                continue
            yield Problem(
                f"run {run_id} ({run.info.run_name}) has the status RUNNING, but its process is gone",
                partial(_end, run),
            )
        elif tags.get(names.SOURCE_TYPE) == "PROJECT":
            seconds = time.time() - run.info.start_time / 1000
            if seconds > _OLD:
                yield Problem(
                    f"run {run_id} was created by `mlflow run` {counted(round(seconds / 3600), 'hour')} ago and never "
                    "started",
                    partial(_fail, run_id),
                )


def _end(run: MlflowRun) -> str:
    run_id = run.info.run_id
    parts = queries.search_runs(run.info.experiment_id, f"tags.`{names.PARENT}` = '{run_id}'")
    # A sweep of an earlier version does not say that it is one.
    is_resumable = endings.is_resumable(run.data.tags.get) or bool(parts)
    endings.settle(run, is_resumable)
    how = endings.resumption(run.data.tags.get, run_id)
    return "marked as KILLED; " + (f"continue it with: {how}" if is_resumable else "it had not begun")


def _fail(run_id: str) -> str:
    store.connect().set_terminated(run_id, "FAILED")
    return "marked as FAILED"


def _check_artifacts(folders: Folders) -> Iterator[Problem]:
    """The artifacts that a finished run refers to exist."""
    for run in queries.all_runs(f"attributes.status = 'FINISHED' AND tags.{names.WEIGHTS} != ''"):
        tags = run.data.tags
        wanted = [names.CONFIG, names.CHECKPOINT]
        wanted += [names.EVALUATION] if names.EVALUATION_SHA256 in tags else []
        wanted += [f"{names.HANDOFF}/{names.ONNX}"] if tags.get(names.PARITY) == "passed" else []
        for path in wanted:
            parent = Path(path).parent.as_posix()
            listed = store.connect().list_artifacts(run.info.run_id, None if parent == "." else parent)
            if path not in {entry.path for entry in listed}:
                yield Problem(f"run {run.info.run_id} ({run.info.run_name}) has lost its artifact {path}")


def _check_leftovers(folders: Folders) -> Iterator[Problem]:
    """Folders that a dead process left unfinished or empty, and states of trainings that are over."""
    for parent in (folders.data, *sorted(folders.data.glob("*/")), folders.artifacts):
        for path in unfinished_folders(parent):
            yield Problem(f"{path} was left unfinished", partial(_finish, path))
    for path in (folders.data / "runs").glob("*/"):
        if is_empty(path):
            yield Problem(f"{path} was left empty", partial(_remove_empty, path))
    trained = {run.info.run_id for run in queries.all_runs(f"tags.{names.WEIGHTS} != ''")}
    for path in (folders.data / "runs").glob("*/states/"):
        if path.parent.name in trained and not in_use(path.parent) and not is_empty(path.parent):
            yield Problem(f"{path} belongs to a training that is over", partial(_remove_states, path))


def _finish(path: Path) -> str:
    former = finish_folder(path)
    return f"{former} is what it was before" if former else "removed"


def _remove_states(path: Path) -> str:
    shutil.rmtree(path)
    if is_empty(path.parent):  # the folder of the run, which may have held nothing else
        remove_empty(path.parent)
    return "removed"


def _remove_empty(path: Path) -> str:
    remove_empty(path)
    return "removed"


CHECKS: dict[str, Callable[[Folders], Iterator[Problem]]] = {
    "packages": _check_packages,
    "plug-ins": _check_plugins,
    "disk": _check_disk,
    "store": _check_store,
    "records": _check_unsent,
    "running": _check_running,
    "artifacts": _check_artifacts,
    "leftovers": _check_leftovers,
}
