"""The train stage: a diverging loss stops the run, and the prepared images are left as they are."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import numpy as np
from conftest import Cli, write_digits

from pipeline.config import Config
from pipeline.data.prepared import load_prepared
from pipeline.stages.prepare import prepare
from pipeline.stages.train import make_trainer
from pipeline.tracking import names
from pipeline.training.distributed import ALONE


def test_a_diverging_run_fails_with_one_line(cli: Cli, tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:60])
    done = cli("run", "--dataset", "digits", "--lr", "1e30", "--epochs", "2")
    # A busy store may add that it is waited for.
    (line,) = (line for line in done.err.splitlines() if not line.startswith("tracking: waiting"))
    # Where the loss stops being a number first depends on rounding.
    assert re.match(
        r"Error: training diverged: the (training|validation) loss is nan in epoch \d after \d+ images", line
    )
    assert done.code == 1
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        assert store.execute("SELECT status FROM runs").fetchall() == [("FAILED",)]
        tags = dict(store.execute("SELECT key, value FROM tags").fetchall())
    assert tags[names.ERROR] == line.removeprefix("Error: ")
    assert tags[names.NOTE] == f"Failed: {tags[names.ERROR]}"
    assert not (tmp_path / "artifacts").exists()
    (artifacts,) = (tmp_path / "mlruns" / "0").glob("*/artifacts")
    traceback = (artifacts / names.TRACEBACK).read_text().splitlines()
    assert "Traceback (most recent call last):" in traceback
    assert traceback[-1].endswith(tags[names.ERROR])
    printed = (artifacts / names.CONSOLE).read_text().splitlines()
    assert printed[0].endswith("$ python -m pipeline run --dataset digits --lr 1e30 --epochs 2")
    assert [text for text in done.out.splitlines() if text not in printed] == []
    assert printed[-1] == line
    assert list((tmp_path / "data" / "runs").rglob(names.CONSOLE)) == []


def test_prepared_images_are_mapped_and_left_alone(tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:100])
    config = Config(dataset=str(tmp_path / "digits"), data_dir=str(tmp_path / "data"))
    data = prepare(config)
    assert isinstance(data.train.images, np.memmap)
    make_trainer(config, data, ALONE).run()
    assert load_prepared(config).digest == data.digest  # verifies every file
