"""The last lines of `run` fit the terminal."""

from __future__ import annotations

import pytest

from pipeline.cli.summary import say_end
from pipeline.text import quietly
from pipeline.tracking import console

FACTS = {"PSNR out": "29.95 dB", "hand-off": "artifacts/autoencoder-var0.01-seed0", "report": "mlruns/0/report.html"}


@pytest.mark.parametrize("width", [30, 40, 80])
def test_a_long_value_stands_in_a_line_of_its_own(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    say_end("0" * 32, FACTS)
    out = capsys.readouterr().out
    for name, text in FACTS.items():
        assert f"{name:<12}{text}\n" in out or f"\n{name}\n  {text}\n" in out
        assert (f"\n{name}\n" in out) == (12 + len(text) > width)


def test_quiet_leaves_the_id(capsys: pytest.CaptureFixture[str]) -> None:
    with console.kept([]), quietly(warns=False):
        print("not this")
        say_end("0" * 32, FACTS)
    assert capsys.readouterr().out == f"{'0' * 32}\n"
