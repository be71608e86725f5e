"""The page's exercises as commands: several models side by side in one run."""

from __future__ import annotations

import re
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import Cli, write_digits

from pipeline.tracking import names

OPTIONS = ("--dataset", "digits", "--epochs", 1, "--batch-size", 16, "--jobs", 2)


@pytest.mark.parametrize(
    ("command", "titles"),
    [
        (("blind", "--size", "s"), ["0.0005:0.1", "0.001", "0.01", "0.1"]),
        (("unet", "--clip-input", "true"), ["autoencoder", "unet", "resunet"]),
    ],
)
def test_an_exercise_ends_with_a_table_and_a_figure(
    command: tuple[str, ...], titles: list[str], cli: Cli, tmp_path: Path, digits: np.ndarray
) -> None:
    write_digits(tmp_path / "digits", digits[:60])
    done = cli(*command, *OPTIONS)
    assert done.code == 0, done.err
    rows = [line for line in done.out.splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1  # aligned
    for title in titles:
        assert any(re.match(rf"\| (variance|model)={title} .*\d+\.\d\d \|.*\d s \|", row) for row in rows), done.out

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs(["0"])
    (parent,) = [run for run in runs if names.PARENT not in run.data.tags]
    children = [run for run in runs if run.data.tags.get(names.PARENT) == parent.info.run_id]
    assert len(children) == len(titles) == len(runs) - 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    artifacts = {entry.path for entry in client.list_artifacts(parent.info.run_id)}
    assert {names.SWEEP_TABLE, names.FIGURES} <= artifacts
    assert parent.data.tags[names.NOTE].count("\n") == len(rows)
    assert len([name for name in parent.data.metrics if name.startswith("test/psnr_mean_")]) == 3 * len(titles)


def test_blind_needs_a_range(cli: Cli) -> None:
    done = cli("blind", "--variance", "0.01")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "a range LOW:HIGH is needed" in done.err
