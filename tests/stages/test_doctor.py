"""`doctor` tells of what died without a word, and mends what can safely be mended."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from pathlib import Path

import mlflow
import numpy as np
import pytest
import sqlalchemy
from alembic import command
from conftest import Cli, kill_while_training, write_digits
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase

from pipeline.tracking import names

TRAIN = ("train", "--dataset", "digits", "--epochs", "50", "--batch-size", "8", "--checkpoint-every", "0.1")


@pytest.fixture
def folder(tmp_path: Path, digits: np.ndarray, cli: Cli) -> Path:
    write_digits(tmp_path / "digits", digits[:500])
    assert cli("prepare", "--dataset", "digits").code == 0
    return tmp_path


def test_a_folder_where_nothing_is_wrong(cli: Cli, tmp_path: Path) -> None:
    done = cli("doctor")
    assert (done.code, done.err) == (0, ""), done
    assert all(line.endswith(": ok") for line in done.out.splitlines())
    assert list(tmp_path.iterdir()) == []  # looking changes nothing


def test_a_run_that_died_without_a_word_is_found_and_can_go_on(folder: Path, cli: Cli) -> None:
    assert kill_while_training(folder, *TRAIN, seconds=0.2) == -signal.SIGKILL
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs(["0"])
    assert run.info.status == "RUNNING"
    leftover = folder / "artifacts" / ".small.abcd1234"
    leftover.mkdir(parents=True)
    os.utime(leftover, (0, 0))

    done = cli("doctor")
    assert (done.code, done.err) == (1, ""), done
    assert f"running: run {run.info.run_id} ({run.info.run_name}) is RUNNING, but its process is gone" in done.out
    assert f"leftovers: {leftover.relative_to(folder)} was left half-written [--fix mends it]" in done.out
    done = cli("doctor", "--fix")
    assert done.code == 0, done
    assert f"mended, marked as KILLED; go on with: --resume {run.info.run_id}" in done.out
    assert not leftover.exists()
    run = client.get_run(run.info.run_id)
    assert (run.info.status, run.data.tags[names.RESUMABLE]) == ("KILLED", "true")
    assert cli("doctor").code == 0

    # What a finished run has lost cannot be mended.
    client.set_terminated(run.info.run_id, "FINISHED")
    client.set_tag(run.info.run_id, names.WEIGHTS, "lost")
    done = cli("doctor", "--fix")
    assert done.code == 1
    assert f"has lost its artifact {names.CHECKPOINT}" in done.out
    assert "states is of a finished run: mended, removed" in done.out


def test_a_database_of_an_earlier_mlflow_is_upgraded_after_a_copy_was_made(cli: Cli, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    InitialBase.metadata.create_all(sqlalchemy.create_engine(f"sqlite:///{database}"))
    command.upgrade(_get_alembic_config(f"sqlite:///{database}"), "400f98739977")  # that of MLflow 3.0
    done = cli("evaluate")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "mlflow.db has not the schema of MLflow" in done.err
    done = cli("doctor", "--fix")
    assert "store: " in done.out
    assert "mended, upgraded; as it was, it is in " in done.out
    assert len(list(tmp_path.glob("mlflow.db.before-upgrade-*"))) == 1
    assert done.code == 0, done

    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'f00000000000'")  # of a later one
    done = cli("doctor", "--fix")
    assert done.code == 1
    assert "not mended, mlflow db upgrade: " in done.out


def test_a_damaged_database_and_a_folder_that_cannot_be_written_to(cli: Cli, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE numbers (value INTEGER)")
        connection.executemany("INSERT INTO numbers VALUES (?)", [(value,) for value in range(10_000)])
    content = database.read_bytes()
    database.write_bytes(content[: len(content) // 2])
    done = cli("doctor", "--data-dir", "/proc/nowhere")
    assert done.code == 1
    assert f"store: {database} is damaged: " in done.out
    assert "disk: /proc cannot be written to: " in done.out
    assert "Traceback" not in done.out + done.err
    shutil.rmtree(tmp_path)
