"""The table of datasets: names, what is said of others, and which packages it needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT
from PIL import Image

from pipeline.config import Config
from pipeline.data.images import Part
from pipeline.data.sources import DATASETS, Channels, Division, describe_unknown, is_dataset, open_source
from pipeline.data.sources.folder import ImageFolder
from pipeline.errors import PipelineError
from pipeline.stages.prepare import prepare


def test_only_one_module_needs_torchvision() -> None:
    pattern = re.compile(r"^\s*(?:import|from) torchvision\b|import_module\(.torchvision", re.MULTILINE)
    importing = {
        path.relative_to(PROJECT).as_posix()
        for path in (PROJECT / "pipeline").rglob("*.py")
        if pattern.search(path.read_text())
    }
    assert importing == {"pipeline/data/sources/torchvision_sets.py"}


def test_mnist_and_folders_work_without_torchvision(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torchvision'] = None; "
        "from pipeline.data.sources import open_source; "
        "from pipeline.config import Config; "
        "mnist, folder = (open_source(Config(dataset=name)) for name in ('mnist', sys.argv[1])); "
        "print(len(mnist.test_labels()), folder.origin)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == f"10000 folder of images '{tmp_path.name}'\n"


def test_every_name_of_the_table_opens_a_source(tmp_path: Path) -> None:
    for name in DATASETS:
        source = open_source(Config(dataset=name, data_dir=str(tmp_path)))
        assert source.origin
        assert source.licence


def test_a_folder_is_a_dataset_and_a_name_that_is_neither_is_one_line(tmp_path: Path) -> None:
    assert isinstance(open_source(Config(dataset=str(tmp_path))), ImageFolder)
    assert not is_dataset("")
    assert not is_dataset("a\0b")
    assert not is_dataset("\udcff")
    assert "did you mean 'kmnist'?" in describe_unknown("kminst")
    with pytest.raises(PipelineError, match=r"'mnits' is neither .* mnist, fashion-mnist, .*; did you mean 'mnist'\?"):
        open_source(Config(dataset="mnits"))


def test_a_dataset_is_one_source_and_one_entry(
    tmp_path: Path, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handful:
        origin, licence = "the first test digits of MNIST", "CC BY-SA 3.0"

        def inputs(self) -> dict[str, str]:
            return {"digits": "a" * 64}

        def divide(self, channels: Channels, scratch: Path) -> Division:
            return Division(Part(digits[:20, np.newaxis]), test=Part(digits[20:24, np.newaxis]))

        def test_labels(self) -> np.ndarray:
            return np.arange(4, dtype=np.uint8)

    monkeypatch.setitem(DATASETS, "handful", lambda data_dir: Handful())
    data = prepare(Config(dataset="handful", data_dir=str(tmp_path)))
    assert (len(data.train), len(data.validation)) == (16, 4)
    assert np.array_equal(data.test.images, digits[20:24, np.newaxis])
    assert data.test_labels is not None
    assert data.manifest["origin"] == "the first test digits of MNIST"


def test_what_is_no_regular_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(np.eye(28, dtype=np.uint8)).save(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.png")
    source = ImageFolder(tmp_path)
    with pytest.raises(PipelineError, match=r"pipe\.png: it cannot be read: it is not a regular file"):
        source.divide(1, tmp_path)
    with pytest.raises(PipelineError, match=r"cannot read .*pipe\.png: it is not a regular file"):
        source.inputs()
