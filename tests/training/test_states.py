"""States of a training on disk: the newest undamaged one is used, and a damaged one is reported."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.training.states import States


def state(epoch: int, seen: int) -> dict[str, Any]:
    return {"epoch": epoch, "seen": seen, "weights": torch.full((3,), float(seen)), "best": None}


@pytest.fixture
def states(tmp_path: Path) -> States:
    """With two states on disk: epoch 2 after 0 images, and the newest, after 64."""
    made = States(tmp_path / "states", Config())
    for epoch, seen in ((1, 1000), (2, 0), (2, 64)):
        made.save(state(epoch, seen))
    return made


def names(states: States) -> list[str]:
    return sorted(path.name[:19] for path in states.folder.iterdir())


def load(states: States) -> tuple[int, int]:
    found = states.load()
    assert found
    assert found["weights"].tolist() == [found["seen"]] * 3
    return found["epoch"], found["seen"]


def test_the_newest_state_is_used_and_old_ones_are_removed(states: States, capsys: pytest.CaptureFixture[str]) -> None:
    assert names(states) == ["000002-000000000000", "000002-000000000064"]
    assert load(states) == (2, 64)
    assert capsys.readouterr().err == ""
    states.remove()
    assert states.load() is None


def test_a_damaged_state_is_reported_and_the_one_before_it_used(
    states: States, capsys: pytest.CaptureFixture[str]
) -> None:
    older, newest = sorted(states.folder.iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    assert load(states) == (2, 0)
    assert capsys.readouterr().err == f"train: {newest} is damaged; using the state before it\n"
    data = bytearray(older.read_bytes())
    data[len(data) // 2] ^= 1
    older.write_bytes(data)
    assert states.load() is None
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("content", [{}, [1], {"epoch": 3, "seen": 0, "config": "{}"}, b"not torch"])
def test_a_file_that_holds_something_else_is_reported_and_the_state_before_it_used(
    content: object, states: States, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = content if isinstance(content, bytes) else buffer.getvalue()
    path = states.folder / f"000003-000000000000-{hashlib.sha256(data).hexdigest()[:32]}.pt"
    path.write_bytes(data)
    assert load(states) == (2, 64)
    assert capsys.readouterr().err == f"train: {path} is damaged; using the state before it\n"


def test_a_folder_that_is_named_like_a_state_is_none(states: States) -> None:
    (states.folder / "000009-000000000000-0.pt").mkdir()
    assert load(states) == (2, 64)
    states.save(state(3, 0))
    assert load(states) == (3, 0)


def test_a_state_of_another_config_is_refused(states: States) -> None:
    with pytest.raises(PipelineError, match="belongs to a training with another config"):
        States(states.folder, Config(seed=1)).load()


def test_what_changes_the_last_bits_is_reported(
    states: States, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    assert load(states) == (2, 64)
    assert "and resumes with 99: the last bits may differ" in capsys.readouterr().err
