"""The file of a store in SQLite: made, checked before MLflow uses it, and mended where MLflow cannot."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import mlflow
from mlflow.store.db.utils import _get_latest_schema_revision, _initialize_tables
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from pipeline.errors import PipelineError
from pipeline.files import write_file

_ARTIFACTS = "mlruns"  # where MLflow keeps those of a store in SQLite, in the folder that it was first used in
# Where it writes down the path of that folder.
_PATHS = (
    *(("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location")),
    *(("model_versions", "source"), ("model_versions", "storage_location")),
)


class DatabaseError(PipelineError):
    """MLflow cannot use a database as it is, but `doctor --fix` can help.

    Attributes:
        problem: what is wrong.
        fix: does something about it, and returns what it did.
    """

    def __init__(self, database: Path, problem: str, help: str, fix: Callable[[Path], str]) -> None:
        super().__init__(f"{database} {problem}: python -m pipeline doctor --fix {help}")
        self.problem = f"{database} {problem}"
        self.fix = partial(fix, database)


def make(database: Path) -> None:
    """Make a database with all tables.

    It is made in memory and written as one file: of a process that is killed meanwhile, MLflow would leave some of the
    tables, which no later one could complete, and it would wait for the disk after each of its migrations.
    """
    with closing(sqlite3.connect(":memory:")) as connection:
        _initialize_tables(create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool))
        write_file(database.resolve(), connection.serialize(), sync=True)


@contextmanager
def open_database(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection to read a SQLite file with.

    It may write: a process that was killed while it wrote leaves a journal, and only a connection that may write can
    roll that back. Where this user may not write, SQLite reads all the same.
    """
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True)) as connection:
        yield connection


def check(database: Path) -> None:
    """Raise a `PipelineError` if MLflow cannot use a database as it is.

    If a table is missing, MLflow upgrades an old database without asking, and whoever uses an older MLflow is shut out.
    """
    try:
        with open_database(database) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "experiments" not in tables:  # MLflow makes them beside what else may be in it
                return
            versions = "SELECT version_num FROM alembic_version"
            version = connection.execute(versions).fetchone() if "alembic_version" in tables else None
            is_used = connection.execute("SELECT count(*) FROM experiments").fetchone() != (0,)
            latest = _get_latest_schema_revision()
            former = _former_places(connection, database) if version == (latest,) else []
    except sqlite3.Error as error:
        raise PipelineError(f"cannot use the tracking store {database}: {error}") from error
    if version != (latest,) and is_used:
        raise DatabaseError(
            database,
            f"does not have the schema of MLflow {mlflow.__version__} ({version and version[0]}, not {latest})",
            "upgrades it, if it is older, and keeps a copy",
            _upgrade,
        )
    if version != (latest,):  # MLflow makes the first experiment when all tables are there
        raise DatabaseError(
            database,
            "was left unfinished by a process that was stopped, and holds no runs",
            "moves it out of the way",
            _move_away,
        )
    if former:
        raise DatabaseError(
            database,
            f"was moved or copied, it seems, and still leads to artifacts in {', '.join(former)}",
            f"has it lead to those in {_artifacts(database)}, and keeps a copy",
            partial(_lead_here, former),
        )


def _artifacts(database: Path) -> Path:
    return database.resolve().parent / _ARTIFACTS


def _former_places(connection: sqlite3.Connection, database: Path) -> list[str]:
    """The folders of artifacts that a database still leads to, though it was moved or copied from there.

    That is so if artifacts of its runs are beside it, and not only where it says that they are. One of the current
    folder, where MLflow keeps artifacts by default, that has none at all is to keep them here, too, unless it was made
    by a process in the other folder: then that is there, and without this database.
    """
    here, places = _artifacts(database), set()
    for experiment, location in connection.execute("SELECT experiment_id, artifact_location FROM experiments"):
        place, _, name = (location or "").rpartition("/")
        if is_local_uri(location) and name == str(experiment) and Path(place).name == _ARTIFACTS:
            places.add(place)
    found = []
    for place in sorted(places):
        there = Path(local_file_uri_to_path(place))
        if there.resolve() == here:
            continue
        query = "SELECT experiment_id, run_uuid FROM runs WHERE substr(artifact_uri, 1, ?) = ?"
        runs = [Path(str(one), run) for one, run in connection.execute(query, (len(place) + 1, f"{place}/"))]
        is_default = here.parent == Path.cwd()
        is_new = is_default and not _has_any(there, runs)
        if _has_any(here, runs) or (is_new and _was_in(there.parent, database.name, connection)):
            found.append(place)
    return found


def _was_in(folder: Path, name: str, connection: sqlite3.Connection) -> bool:
    """Whether a database may have been moved or copied from `folder`."""
    if not folder.is_dir():
        return True
    made = "SELECT experiment_id, creation_time FROM experiments ORDER BY creation_time LIMIT 1"
    try:
        with open_database(folder / name) as other:
            return other.execute(made).fetchone() == connection.execute(made).fetchone()
    except sqlite3.Error:  # there is none
        return False


def _has_any(folder: Path, runs: Iterable[Path]) -> bool:
    return folder.is_dir() and any((folder / run).is_dir() for run in runs)


def _lead_here(former: Iterable[str], database: Path) -> str:
    copy, here = _copy(database, "before-move"), _artifacts(database)
    with open_database(database) as connection, connection:
        for place in former:
            new = here.as_uri() if place.startswith("file:") else str(here)
            for table, column in _PATHS:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (new, len(place) + 1, len(place) + 1, f"{place}/"),
                )
    return f"it leads to the artifacts in {here}; a copy from before is in {copy}"


def _dated(database: Path, what: str) -> Path:
    return database.with_name(f"{database.name}.{what}-{time.strftime('%Y%m%d-%H%M%S')}")


def _copy(database: Path, what: str) -> Path:
    copy = _dated(database, what)
    with open_database(database) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def _move_away(database: Path) -> str:
    return f"moved to {database.rename(_dated(database, 'unfinished'))}; the next run makes a new one"


def _upgrade(database: Path) -> str:
    copy = _copy(database, "before-upgrade")
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{database}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        with closing(sqlite3.connect(copy)) as source, open_database(database) as target:
            source.backup(target)
        raise PipelineError(f"mlflow db upgrade: {done.stderr.strip().splitlines()[-1]}")
    return f"upgraded; a copy from before is in {copy}"
