"""Eight trainings at once on a fresh store: all finish, and none disturbs another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import Cli, Result, check_curve, write_digits
from server import Server

from pipeline.tracking import names

COUNT = 8
EPOCHS = 3


@pytest.fixture
def folder(tmp_path: Path, digits: np.ndarray) -> Path:
    write_digits(tmp_path / "digits", digits[:100])
    return tmp_path


def start_together(cli: Cli, uri: str) -> None:
    """Eight that prepare and train, four of them of one seed, and all on one data folder.

    That is where they can get into each other's way; benchmarks/faults.py does it with whole `run`s.
    """

    def prepare_and_train(number: int) -> Result:
        options = ("--dataset", "digits", "--seed", number // 4)
        done = cli("prepare", *options, MLFLOW_TRACKING_URI=uri)
        assert (done.code, done.err) == (0, "")
        train = ("train", *options, "--epochs", EPOCHS, "--batch-size", 8, "--force")
        return cli(*train, MLFLOW_TRACKING_URI=uri)

    with ThreadPoolExecutor(COUNT) as pool:
        ends = list(pool.map(prepare_and_train, range(COUNT)))
    assert [(done.err, done.code) for done in ends] == [("", 0)] * COUNT
    client = mlflow.MlflowClient(uri)
    runs = client.search_runs(["0"])
    assert len(runs) == COUNT
    weights = set()
    for run in runs:
        assert run.info.status == "FINISHED"
        weights.add((run.data.params["seed"], run.data.tags[names.WEIGHTS]))
        curve = check_curve(client, run.info.run_id, EPOCHS)
        assert len(client.list_artifacts(run.info.run_id, names.IMAGES)) == 2 * len([0, *curve])
    assert len(weights) == 2  # those of one seed are the same, bit for bit


# When two runs log the same dataset at once, the store may refuse one of them. Here it refuses the first two.
LOSE_THE_RACE = """
CREATE SEQUENCE tries;
CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('tries') <= 2 THEN RAISE unique_violation; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER lose BEFORE INSERT ON datasets FOR EACH ROW EXECUTE FUNCTION lose();
"""


def test_on_sqlite(folder: Path, cli: Cli) -> None:
    start_together(cli, f"sqlite:///{folder / 'mlflow.db'}")
    assert list((folder / "data" / "runs").iterdir()) == []  # nothing left to send


def test_trainings_on_a_server_with_postgresql(
    folder: Path, cli: Cli, postgresql: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    psycopg2 = pytest.importorskip("psycopg2")
    with Server(tmp_path_factory.mktemp("server"), postgresql) as server:
        with psycopg2.connect(postgresql.replace("+psycopg2", "")) as database:
            database.cursor().execute(LOSE_THE_RACE)
        start_together(cli, server.uri)
    assert list((folder / "data" / "runs").iterdir()) == []
