"""A fingerprint changes with everything that decides a result, and with nothing else."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.models import MODELS
from pipeline.tracking import fingerprint as module
from pipeline.tracking.fingerprint import describe_changes, digest, fingerprint

PACKAGE = Path(pipeline.__file__).parent
SOURCES = {
    "stages/train.py": """
        from typing import TYPE_CHECKING
        from pipeline.loop import fit
        from pipeline import models
        if TYPE_CHECKING:
            from pipeline.only_for_types import Something
        def train():
            from pipeline import late
            return fit()
    """,
    "loop.py": "def fit():\n    return 1\n",
    "late.py": "",
    "models/__init__.py": "TABLE = {'unet': 'pipeline.models.unet:UNet', 'dncnn': 'pipeline.models.dncnn:DnCNN'}",
    "models/unet.py": "import pipeline.models.layers",
    "models/layers.py": "",
    "models/dncnn.py": "",
    "only_for_types.py": "",
    "unrelated.py": "",
    "data.bin": "1",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package, whose modules nobody imports."""
    folder = tmp_path / "pipeline"
    for name, text in SOURCES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.replace("\n        ", "\n"))
    monkeypatch.setattr(module, "_PACKAGE", folder)
    return folder


def of_train(folder: Path, **inputs: Any) -> dict[str, str]:
    module._closure.cache_clear()
    module._source.cache_clear()
    return dict(
        fingerprint(
            "pipeline.stages.train",
            packages=["numpy"],
            ignore=["pipeline.models.dncnn"],
            files=[folder / "data.bin"],
            **inputs,
        )
    )


def test_it_holds_inputs_versions_and_all_modules_that_are_imported(package: Path) -> None:
    parts = of_train(package, lr=0.01, seed=3, variance=None)
    files = {name for name in parts if "/" in name}
    assert files == {
        f"pipeline/{name}" for name in SOURCES if name not in ("models/dncnn.py", "only_for_types.py", "unrelated.py")
    }
    assert {name: text for name, text in parts.items() if name not in files} == {
        **{"lr": "0.01", "seed": "3", "numpy": version("numpy")}
    }


@pytest.mark.parametrize(
    ("name", "text", "changes"),
    [
        ("loop.py", "def fit():\n    return 2\n", True),
        ("loop.py", '"""What it is."""\n\n\ndef fit():\n    """How."""\n    return 1  # why\n', False),
        ("late.py", "X = 1", True),
        ("models/layers.py", "X = 1", True),
        ("models/dncnn.py", "X = 1", False),
        ("only_for_types.py", "X = 1", False),
        ("unrelated.py", "X = 1", False),
        ("data.bin", "2", True),
    ],
)
def test_an_edit_counts_where_it_matters(name: str, text: str, changes: bool, package: Path) -> None:
    before = of_train(package)
    (package / name).write_text(text)
    after = of_train(package)
    assert (digest(after) != digest(before)) is changes
    assert describe_changes(after, before) == (f"pipeline/{name}" if changes else "")


def test_what_changed_is_said() -> None:
    before = {"lr": "0.02", "gone": "1", "data": "0" * 64, "same": "1"}
    now = {"lr": "0.01", "new": "1", "data": "1" * 64, "same": "1"}
    assert describe_changes(now, before) == "lr 0.01 (was 0.02), new new, data, gone gone"
    many = {f"{number}.py": "1" for number in range(20)}
    assert describe_changes(many, {}) == ", ".join([*list(many)[:8], "and 12 more"])


@pytest.mark.parametrize("stage", ["prepare", "train", "evaluate", "export"])
def test_the_modules_that_stages_name_exist(stage: str) -> None:
    assert f'"pipeline.stages.{stage}"' in (PACKAGE / "stages" / f"{stage}.py").read_text()
    parts = fingerprint(f"pipeline.stages.{stage}", packages=(), ignore=[entry.module for entry in MODELS.values()])
    assert f"pipeline/stages/{stage}.py" in parts


@pytest.mark.parametrize(("name", "ignore"), [("pipeline.stages.no", []), ("pipeline.stages.train", ["pipeline.no"])])
def test_a_module_that_does_not_exist_is_an_error(name: str, ignore: list[str]) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"pipeline\.(stages\.)?no is not a module of"):
        fingerprint(name, packages=(), ignore=ignore)
