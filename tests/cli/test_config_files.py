"""--config: a file gives the defaults, the command line wins, and the file that a run stores repeats the run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import mlflow
import numpy as np
import pytest
from conftest import Cli, write_digits
from mlflow.entities import Run

from pipeline.cli.commands import cli as command_line
from pipeline.cli.config_files import PRESETS
from pipeline.models import COURSE_PAGE, MODELS
from pipeline.tracking import names


def options(*arguments: str) -> dict[str, object]:
    with command_line.commands["train"].make_context("train", list(arguments)) as context:
        return context.params


def test_presets_are_what_they_are_called() -> None:
    assert set(PRESETS) == {"page", "fast", "best", "blind", "photographs"}
    for name in PRESETS:
        assert options("--config", name)["model"] in MODELS
    assert options("--config", "page")["recipe"] == "page"
    assert options("--config", "blind")["variance"] == "0.0005:0.1"
    assert options("--config", "photographs")["dataset"] == "photos"


def test_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "my config.yaml"
    file.write_text("batch-size: 32\nlr: 1e-3\nvariance: 1:1  # no minutes\nclip_input: true\nfrom: my-model\n")
    given = options("--config", str(file), "--batch-size", "16")
    assert (given["batch_size"], given["lr"], given["variance"], given["clip_input"]) == (16, 0.001, "1:1", True)
    assert given["start"] == "my-model"
    given = options("--variance", "0.01", "--clip-input", "false", "--config", str(file))
    assert (given["variance"], given["clip_input"]) == ("0.01", False)  # also where it is the default


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("epoch: 3", "has an unknown option 'epoch'; did you mean 'epochs'?"),
        ("epochs: [3]", "has several values for epochs; it must be one number or text"),
        ("- epochs", "is not a list of options; it must hold lines such as 'epochs: 5'"),
        ("", "is not a list of options; it must hold lines such as 'epochs: 5'"),
        ("a: b: c", "is not YAML: mapping values are not allowed here"),
        ("config: page", "has an unknown option 'config'"),
        ("epochs: many", "'many' is not an integer from 1 to 100,000"),
        (b"\xff\xfe\x00", "it is not UTF-8 text"),
        ("[" * 20_000, "is nested too deeply; it must hold lines such as 'epochs: 5'"),
        ("model: unet:width=" + "1" * 5000, "is not an integer from 1 to 1,024"),
        ("epochs: " + "1" * 5000, "is not an integer from 1 to 100,000"),
        (None, "cannot be read: No such file or directory; allowed: a file, or a preset: best, blind, fast, page"),
    ],
)
def test_a_bad_file_is_one_line(content: str | bytes | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(click.UsageError, match=re.escape(said)):
        options("--config", str(file))


def test_the_file_that_a_run_stores_repeats_it_bit_for_bit(cli: Cli, tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:300])
    assert cli("prepare", "--dataset", "digits", "--seed", 5).code == 0
    shape = ("--variance", "0.002:0.05", "--lr", "0.0123", "--batch-size", 16, "--model", "unet:width=4", "--seed", 5)
    assert cli("train", "--config", "page", "--dataset", "digits", *shape, "--epochs", 1).code == 0

    def runs() -> list[Run]:
        return list(mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").search_runs(["0"]))

    (first,) = runs()
    stored = Path(first.info.artifact_uri.removeprefix("file://")) / names.CONFIG
    assert json.loads(stored.read_text())["optimizer"] == COURSE_PAGE.optimizer
    done = cli("train", "--config", stored, "--force")
    assert done.code == 0, done
    second, _ = runs()
    assert second.info.run_id != first.info.run_id
    assert second.data.tags[names.WEIGHTS] == first.data.tags[names.WEIGHTS]
    assert second.data.params == first.data.params
