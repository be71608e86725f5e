"""`doctor` reports processes that vanished, and fixes what can be fixed safely."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import pytest
import sqlalchemy
from alembic import command
from conftest import Cli, environment, kill_while_training, write_digits
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase

from pipeline.files import scratch_folder
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


def test_a_run_whose_process_vanished_is_found_and_can_be_resumed(folder: Path, cli: Cli) -> None:
    assert kill_while_training(folder, *TRAIN, seconds=0.2) == -signal.SIGKILL
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs(["0"])
    assert run.info.status == "RUNNING"
    leftover = folder / "artifacts" / ".small.abcd1234"
    leftover.mkdir(parents=True)
    (leftover / "unfinished.lock").touch()
    (leftover / "former").mkdir()  # out of its place when the process died

    done = cli("doctor")
    assert (done.code, done.err) == (1, ""), done
    assert (
        f"running: run {run.info.run_id} ({run.info.run_name}) has the status RUNNING, but its process is gone"
        in done.out
    )
    assert f"leftovers: {leftover.relative_to(folder)} was left unfinished [--fix repairs it]" in done.out
    done = cli("doctor", "--fix")
    assert done.code == 0, done
    assert f"fixed, marked as KILLED; continue it with: python -m pipeline train --resume {run.info.run_id}" in done.out
    assert f"fixed, {Path('artifacts', 'small')} is what it was before" in done.out
    assert [path.name for path in leftover.parent.iterdir()] == ["small"]
    run = client.get_run(run.info.run_id)
    assert (run.info.status, run.data.tags[names.RESUMABLE]) == ("KILLED", "true")
    printed = (folder / "mlruns" / "0" / run.info.run_id / "artifacts" / names.CONSOLE).read_text().splitlines()
    assert " ".join(TRAIN) in printed[0]
    assert run.data.tags[names.NOTE] == (
        "Killed: its process vanished: kill -9, no memory left, or the machine stopped; the last it said: "
        f"{printed[-1]}; continue with: python -m pipeline train --resume {run.info.run_id}"
    )

    # States stay if the process dies between the last record of a training and their removal.
    client.set_tag(run.info.run_id, names.WEIGHTS, "lost")
    done = cli("doctor")
    assert done.code == 1
    assert [line for line in done.out.splitlines() if not line.endswith(": ok")] == [
        f"leftovers: data/runs/{run.info.run_id}/states belongs to a training that is over [--fix repairs it]"
    ]
    of_run = folder / "data" / "runs" / run.info.run_id
    shutil.copytree(of_run / "states", of_run.with_name("new") / "states")  # all records have been sent
    shutil.rmtree(of_run)
    of_run.with_name("new").rename(of_run)
    # What a finished run has lost cannot be brought back.
    client.set_terminated(run.info.run_id, "FINISHED")
    done = cli("doctor", "--fix")
    assert done.code == 1
    assert f"has lost its artifact {names.CHECKPOINT}" in done.out
    assert "states belongs to a training that is over: fixed, removed" in done.out
    assert not of_run.exists()  # or the next would find it empty

    # Of an empty folder, nothing is removed twice.
    (of_run / "states").mkdir(parents=True)
    done = cli("doctor", "--fix")
    assert f"{run.info.run_id} was left empty: fixed, removed" in done.out
    assert "states belongs to" not in done.out


def test_folders_of_others_and_those_that_are_in_use_stay(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("artifacts/.notes.20240101", "data/.thesis.original"):
        (tmp_path / name).mkdir(parents=True)
    with scratch_folder(tmp_path / "artifacts" / "small") as used:
        os.utime(used, (0, 0))  # however long it takes
        done = cli("doctor", "--fix")
        assert (done.code, done.err) == (0, ""), done
        assert "leftovers: ok" in done.out
        assert used.is_dir()
    assert sorted(path.name for path in tmp_path.glob("*/.*")) == [".notes.20240101", ".thesis.original"]


KILLED_WHILE_STARTING = """
import os, signal
from pipeline.config import Config
from pipeline.tracking import opening, store

make = store.create_run
def make_and_die(*arguments):
    make(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

store.create_run = make_and_die
with opening.start_run(Config(dataset="digits")):
    pass
"""


def test_a_run_whose_process_died_before_its_first_record_is_found(cli: Cli, tmp_path: Path) -> None:
    assert run_script(KILLED_WHILE_STARTING, tmp_path).returncode == -signal.SIGKILL
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs(["0"])
    assert run.info.status == "RUNNING"
    done = cli("doctor")
    assert (done.code, done.err) == (1, ""), done
    assert f"run {run.info.run_id} ({run.info.run_name}) has the status RUNNING, but its process is gone" in done.out
    done = cli("doctor", "--fix")
    assert (done.code, done.err) == (0, ""), done
    assert "fixed, marked as KILLED; it had not begun" in done.out
    assert client.get_run(run.info.run_id).info.status == "KILLED"
    assert list((tmp_path / "data" / "runs").iterdir()) == []


FINISHED_BUT_NOTHING_WAS_TAKEN = """
from pipeline.tracking import opening, to_mlflow

to_mlflow.KINDS.clear()
with opening.start_comparison("compared", "data") as run:
    run.log_metrics({"psnr": 30.0})
"""


def test_a_run_whose_end_is_still_to_be_sent_is_not_taken_for_dead(cli: Cli, tmp_path: Path) -> None:
    assert run_script(FINISHED_BUT_NOTHING_WAS_TAKEN, tmp_path).returncode == 0
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs(["0"])
    assert run.info.status == "RUNNING"
    done = cli("doctor")
    assert (done.code, done.err) == (1, ""), done
    assert f"3 records of run {run.info.run_id} not yet in the store" in done.out
    assert "running: ok" in done.out
    done = cli("doctor", "--fix")
    assert (done.code, done.err) == (0, ""), done
    run = client.get_run(run.info.run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"psnr": 30.0})


def test_a_database_of_an_earlier_mlflow_is_upgraded_after_a_copy_was_made(cli: Cli, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    InitialBase.metadata.create_all(sqlalchemy.create_engine(f"sqlite:///{database}"))
    command.upgrade(_get_alembic_config(f"sqlite:///{database}"), "400f98739977")  # that of MLflow 3.0
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO experiments (experiment_id, name) VALUES (0, 'Default')")
    done = cli("evaluate")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "mlflow.db does not have the schema of MLflow" in done.err
    done = cli("doctor", "--fix")
    assert "store: " in done.out
    assert "fixed, upgraded; a copy from before is in " in done.out
    assert len(list(tmp_path.glob("mlflow.db.before-upgrade-*"))) == 1
    assert done.code == 0, done

    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'f00000000000'")  # of a later one
    done = cli("doctor", "--fix")
    assert done.code == 1
    assert "not fixed, mlflow db upgrade: " in done.out


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


def test_the_other_checks_go_on_after_an_error_of_the_store(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "data" / "runs" / "left").mkdir(parents=True)
    done = cli("doctor", "--fix", MLFLOW_TRACKING_URI="http://127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert (done.code, done.err) == (1, ""), done
    assert "store: cannot use the tracking store http://127.0.0.1:9: " in done.out
    for name in ("running", "artifacts"):
        assert f"{name}: not checked: " in done.out
    assert f"leftovers: {Path('data', 'runs', 'left')} was left empty: fixed, removed" in done.out


# MLflow answers the first question of a command, and fails at all that come after it.
FAILING_SERVER = """
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pipeline.cli.commands import main

def fail(*_, **__):
    raise MlflowException("502: bad gateway")

MlflowClient.search_runs = fail
main(["doctor"])
"""


def test_a_server_that_fails_between_two_questions_ends_no_command_of_the_doctor(tmp_path: Path) -> None:
    assert run_script(CONNECT, tmp_path).returncode == 0
    done = run_script(FAILING_SERVER, tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    for name in ("running", "artifacts", "leftovers"):
        assert f"{name}: not checked: MlflowException: 502: bad gateway\n" in done.stdout


def run_script(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)


CONNECT = "from pipeline.tracking.store import connect; connect(create=True)"
KILLED_WHILE_CONNECTING = f"""
import logging, os, signal

class Kill(logging.Handler):
    seen = 0
    def emit(self, record):
        self.seen += 1
        if self.seen == 20:
            os.kill(os.getpid(), signal.SIGKILL)

migrations = logging.getLogger("alembic.runtime.migration")  # one message for each
migrations.setLevel(logging.INFO)
migrations.addHandler(Kill())
{CONNECT}
"""


def test_a_process_killed_while_it_makes_the_database_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    assert run_script(KILLED_WHILE_CONNECTING, tmp_path).returncode == -signal.SIGKILL
    done = run_script(CONNECT, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


def test_an_unfinished_database_of_the_former_version_is_moved_away(cli: Cli, tmp_path: Path) -> None:
    # The former version let MLflow make the tables in place.
    in_place = KILLED_WHILE_CONNECTING.replace(CONNECT, "import mlflow; mlflow.MlflowClient().search_experiments()")
    assert run_script(in_place, tmp_path).returncode == -signal.SIGKILL
    done = cli("evaluate")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "mlflow.db was left unfinished by a process that was stopped, and holds no runs: " in done.err
    done = cli("doctor", "--fix")
    assert (done.code, done.err) == (0, ""), done
    assert "fixed, moved to " in done.out
    (moved,) = tmp_path.glob("mlflow.db.unfinished-*")
    assert moved.stat().st_size > 0
    assert cli("doctor").code == 0


KILLED_WHILE_WRITING = """
import os, signal, sqlite3

connection = sqlite3.connect("mlflow.db", isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # so that pages reach the disk before the end
connection.execute("BEGIN IMMEDIATE")
connection.execute("CREATE TABLE numbers (value)")
connection.executemany("INSERT INTO numbers VALUES (hex(randomblob(?)))", [(100,)] * 5000)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_while_it_writes_does_not_lock_the_others_out(cli: Cli, tmp_path: Path) -> None:
    assert run_script(CONNECT, tmp_path).returncode == 0
    for name, said in (("doctor", "store: ok"), ("compare", "no finished and evaluated runs to compare")):
        assert run_script(KILLED_WHILE_WRITING, tmp_path).returncode == -signal.SIGKILL
        assert (tmp_path / "mlflow.db-journal").stat().st_size > 0
        done = cli(name)
        assert said in done.out + done.err
        assert "readonly" not in done.out + done.err
