"""MLflow's tables, which take it a second or two: made once, and then copied into every new SQLite file.

So it is for whatever imports this: the processes that run tests, and those that they fork. Tests of the making start
others.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from functools import cache

from mlflow.store.db import utils
from mlflow.store.tracking import sqlalchemy_store  # noqa: F401  # its tables
from sqlalchemy import Engine, StaticPool, create_engine, event, inspect

_migrate = utils._initialize_tables


@cache
def tables() -> bytes:
    """An SQLite file after all of MLflow's migrations."""
    for name in ("alembic", utils.__name__):
        logging.getLogger(name).setLevel(logging.WARNING)
    with closing(sqlite3.connect(":memory:")) as connection:
        _migrate(create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool))
        return connection.serialize()


def _initialize_tables(engine: Engine) -> None:
    if engine.dialect.name != "sqlite" or inspect(engine).get_table_names():
        _migrate(engine)
        return
    with closing(sqlite3.connect(":memory:")) as source, engine.connect() as connection:
        source.deserialize(tables())
        source.backup(connection.connection.driver_connection)  # type: ignore[arg-type]


utils._initialize_tables = _initialize_tables


@event.listens_for(Engine, "connect")
def _do_not_wait_for_the_disk(connection: object, _: object) -> None:
    """After each of thousands of commits: that would help against a power failure, which no test brings about."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")
