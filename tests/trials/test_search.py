"""search: trials follow from those before; hopeless ones are stopped; an interrupted search can be resumed."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import BEST_LOSS, Cli, write_digits
from mlflow.entities import Run

from pipeline.tracking import names

SEARCH = ("search", "--dataset", "digits", "--batch-size", "16")


@pytest.fixture
def folder(tmp_path: Path, digits: np.ndarray) -> Path:
    write_digits(tmp_path / "digits", digits[:120])
    return tmp_path


def test_a_search_goes_on_and_stops_what_is_hopeless(cli: Cli, folder: Path) -> None:
    done = cli(*SEARCH, "--epochs", 5, "--lr", "0.01:0.03", "--trials", 3, "--jobs", 2)
    assert (done.code, done.err) == (0, ""), done
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")

    def found() -> tuple[Run, list[Run]]:
        runs = list(client.search_runs(["0"]))
        (parent,) = (run for run in runs if names.PARENT not in run.data.tags)
        return parent, [run for run in runs if run is not parent]

    parent, children = found()
    assert [child.info.status for child in children] == ["FINISHED"] * 3
    rates = {float(child.data.params["lr"]) for child in children}
    assert len(rates) == 3
    assert all(0.01 <= rate <= 0.03 for rate in rates)
    best = min(children, key=lambda child: child.data.metrics[BEST_LOSS])
    assert parent.data.tags[names.BEST_RUN] == best.info.run_id
    config = mlflow.artifacts.download_artifacts(
        run_id=parent.info.run_id, artifact_path=names.BEST_CONFIG, tracking_uri=f"sqlite:///{folder / 'mlflow.db'}"
    )
    assert json.loads(Path(config).read_text())["lr"] == float(best.data.params["lr"])
    assert {names.SWEEP_TABLE, names.FIGURES, names.BEST_CONFIG} <= {
        entry.path for entry in client.list_artifacts(parent.info.run_id)
    }
    rows = re.findall(r"^\| ([0-9a-f]{8}) \|", done.out, re.MULTILINE)
    assert rows[0] == best.info.run_id[:8]

    # The same again has nothing to do; with one more, only that is run. It was chosen already, by a sweep that died
    # before its run began; it learns nothing, and does not get to its end.
    again = cli(*SEARCH, "--epochs", 5, "--lr", "0.01:0.03", "--trials", 3, "--resume", parent.info.run_id)
    assert "is finished" in again.err
    client.set_terminated(parent.info.run_id, "KILLED")
    chosen = {"choice": {"lr": 1.5e-7}, "host": socket.gethostname()}
    client.set_tag(parent.info.run_id, names.choice_tag("lost"), json.dumps(chosen))
    few = ("--lr", "0.0000001:0.0000002", "--trials", 4, "--resume", parent.info.run_id)
    done = cli(*SEARCH, "--epochs", 400, *few)
    assert (done.code, done.err) == (0, ""), done
    assert len(re.findall(r"^trial \d+ of 4: ", done.out, re.MULTILINE)) == 1
    assert "pruned: others did better" in done.out
    parent, children = found()
    (hopeless,) = (child for child in children if child.info.status != "FINISHED")
    assert (hopeless.info.status, hopeless.data.tags[names.PRUNED]) == ("KILLED", "true")
    assert (hopeless.data.tags[names.TRIAL], hopeless.data.params["lr"]) == ("lost", "1.5e-07")
    assert BEST_LOSS not in hopeless.data.metrics
    assert parent.data.tags[names.BEST_RUN] == best.info.run_id
