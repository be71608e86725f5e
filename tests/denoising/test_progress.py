"""Somebody who waits sees that something happens."""

from __future__ import annotations

import time

import pytest

from pipeline.denoising.progress import ProgressDisplay


def test_a_line_now_and_then_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    said = ""
    with ProgressDisplay(1200, every=0.01) as display:
        display.update(1100)
        while "1,100" not in said:  # even within one large file
            time.sleep(0.01)
            said += capsys.readouterr().err
    assert said.splitlines()[-1] == "denoise: 1,100 of 1,200 files so far"
    capsys.readouterr()
    time.sleep(0.05)
    assert capsys.readouterr().err == ""
