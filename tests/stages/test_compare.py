"""compare as rows for programs, with the time of the exported file."""

from __future__ import annotations

import csv
import io
import json

from conftest import Cli, Trained

from pipeline.models import build_model
from pipeline.models.facts import multiply_adds_per_pixel


def test_a_row_for_each_run_and_nothing_else(trained: Trained, cli: Cli) -> None:
    done = cli("compare", "--time", "true", "--format", "json", MLFLOW_TRACKING_URI=trained.store)
    assert done.code == 0, done
    (row,) = json.loads(done.out)
    assert (row["place"], row["run_id"], row["verdict"]) == (1, trained.run_id, "better than its input")
    assert row["gain"] == row["psnr"] - row["input_psnr"] > 0
    assert row["ms_per_image"] > row["ms_spread"] > 0
    assert row["multiply_adds_per_pixel"] == multiply_adds_per_pixel(build_model("autoencoder"), 1)

    done = cli("compare", trained.run_id, "--format", "csv", MLFLOW_TRACKING_URI=trained.store)
    (untimed,) = csv.DictReader(io.StringIO(done.out))
    assert list(untimed) == list(row)
    assert (untimed["run_id"], untimed["ms_per_image"]) == (trained.run_id, "")
    assert not (trained.cwd / "comparison").exists()
