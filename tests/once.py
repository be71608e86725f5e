"""What others' code makes anew in each process, for a second or two, and always the same: here it is made once.

The server that forks processes imports this; see `start` in `conftest`. Tests of the making start others.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from functools import cache
from typing import Any

from mlflow.store.db import utils
from mlflow.store.tracking import sqlalchemy_store  # noqa: F401  # its tables
from sqlalchemy import Engine, StaticPool, create_engine, inspect
from torch.onnx._internal.exporter import _registration


def _tables() -> bytes:
    """An SQLite file after all of MLflow's migrations."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger(utils.__name__).setLevel(logging.WARNING)
    with closing(sqlite3.connect(":memory:")) as connection:
        utils._initialize_tables(create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool))
        return connection.serialize()


_TABLES = _tables()
_migrate = utils._initialize_tables


def _initialize_tables(engine: Engine) -> None:
    if engine.dialect.name != "sqlite" or inspect(engine).get_table_names():
        _migrate(engine)
        return
    with closing(sqlite3.connect(":memory:")) as source, engine.connect() as connection:
        source.deserialize(_TABLES)
        source.backup(connection.connection.driver_connection)  # type: ignore[arg-type]


utils._initialize_tables = _initialize_tables

# How torch writes each of its operators in ONNX.
_onnxscript: Any = _registration.onnxscript_apis
_onnxscript.get_torchlib_ops = cache(_onnxscript.get_torchlib_ops)
_onnxscript.get_torchlib_ops()
