"""Somebody who waits for an epoch sees that something happens."""

from __future__ import annotations

import pytest

from pipeline.training.loop import Position
from pipeline.training.progress import ProgressDisplay


def test_a_line_now_and_then_within_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    for every, lines in ((0, 2), (3600, 0)):
        with ProgressDisplay(10, 48_000, every=every) as display:
            display.update(Position(3, 12_000, 0.0125, 350))
            display.update(Position(3, 24_000, 0.0125, 350))
        said = capsys.readouterr().out.splitlines()
        assert len(said) == lines
        if lines:
            assert said[0] == ("train: epoch 3/10: 12,000 of 48,000 images, training loss 0.01250, 350 images/s")
