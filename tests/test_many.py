"""Eight at once, on a fresh store: all finish, and none disturbs another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import check_curve, environment, write_digits
from server import Server

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


# Two runs that write down the same dataset at once: one of them is refused, if it is unlucky. Here the first two are.
LOSE_THE_RACE = """
CREATE SEQUENCE tries;
CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('tries') <= 2 THEN RAISE unique_violation; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER lose BEFORE INSERT ON datasets FOR EACH ROW EXECUTE FUNCTION lose();
"""


def test_on_sqlite(folder: Path) -> None:
    start_together(folder, f"sqlite:///{folder / 'mlflow.db'}")


def test_trainings_on_a_server_with_postgresql(
    folder: Path, postgresql: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    psycopg2 = pytest.importorskip("psycopg2")
    with Server(tmp_path_factory.mktemp("server"), postgresql) as server:
        with psycopg2.connect(postgresql.replace("+psycopg2", "")) as database:
            database.cursor().execute(LOSE_THE_RACE)
        start_together(folder, server.uri)
