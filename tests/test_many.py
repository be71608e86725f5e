"""Eight at once, on a fresh store: all finish, and none disturbs another."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import check_curve, environment, write_digits
from server import Server, free_port

# The first half of `run`, which is all that they can disturb one another in; benchmarks/faults.py does the whole.
BOTH = """
import sys
from pipeline.cli import main
try:
    main(["prepare", *sys.argv[1:5]])
except SystemExit as end:
    if end.code:
        raise
main(["train", *sys.argv[1:]])
"""
COUNT = 8
EPOCHS = 3


@pytest.fixture
def folder(tmp_path: Path, digits: np.ndarray) -> Path:
    write_digits(tmp_path / "digits", digits[:100])
    return tmp_path


def start_together(folder: Path, uri: str) -> None:
    """Eight that prepare and train, four of them of one seed, and all on one data folder."""
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", BOTH, "--dataset", "digits", "--seed", str(number // 4)),
                *("--epochs", str(EPOCHS), "--batch-size", "8", "--force"),
            ],
            cwd=folder,
            env=environment(MLFLOW_TRACKING_URI=uri),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(COUNT)
    ]
    ends = [(*process.communicate(timeout=500), process.returncode) for process in processes]
    assert [(err, code) for _, err, code in ends] == [("", 0)] * COUNT
    client = mlflow.MlflowClient(uri)
    runs = client.search_runs(["0"])
    assert len(runs) == COUNT
    weights = set()
    for run in runs:
        assert run.info.status == "FINISHED"
        weights.add((run.data.params["seed"], run.data.tags["weights"]))
        curve = check_curve(client, run.info.run_id, EPOCHS)
        assert len(client.list_artifacts(run.info.run_id, "images")) == 2 * len(curve)
    assert len(weights) == 2  # those of one seed are the same, bit for bit
    assert list((folder / "data" / "runs").iterdir()) == []


def test_on_sqlite(folder: Path) -> None:
    start_together(folder, f"sqlite:///{folder / 'mlflow.db'}")


@pytest.fixture
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a database on a fresh PostgreSQL server."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("not run: PostgreSQL is not installed")
    pytest.importorskip("psycopg2", reason="not run: psycopg2 is not installed")
    folder, port = tmp_path_factory.mktemp("postgresql"), free_port()
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.getuid() == 0 else getpass.getuser()
    prefix = ["runuser", "-u", user, "--"] if os.getuid() == 0 else []
    if prefix:
        for path in (folder, *folder.parents):
            if path.owner() == "root" and path != Path("/") and str(path).startswith("/tmp/pytest"):
                path.chmod(0o755)
        shutil.chown(folder, user)

    def run(command: str, *arguments: str) -> None:
        subprocess.run([*prefix, str(binaries[-1] / command), *arguments], cwd=folder, check=True, capture_output=True)

    run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", user)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    run("pg_ctl", "-D", str(folder / "data"), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql+psycopg2://{user}@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop")


def test_trainings_on_a_server_with_postgresql(
    folder: Path, postgresql: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Server(tmp_path_factory.mktemp("server"), postgresql) as server:
        start_together(folder, server.uri)
