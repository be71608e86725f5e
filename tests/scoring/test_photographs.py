"""benchmarks/photographs.py, which prints the tables of the documentation, on a few small pictures."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT, write_digits
from PIL import Image

from pipeline.scoring import awgn, published

HANDOFF = str(PROJECT / "artifacts" / "mnist-blind")


def test_every_set_of_the_models_channels_is_in_the_tables(
    tmp_path: Path, digits: np.ndarray, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(PROJECT)
    from benchmarks import photographs

    monkeypatch.setattr(photographs, "SIDE", 28)
    known = next(iter(published.KNOWN_SETS.values()))
    (tmp_path / "sets").mkdir()
    for name, first in (("renamed", 0), ("unknown", 10)):
        write_digits(tmp_path / "sets" / name, digits[first : first + 10])
    (tmp_path / "sets" / "colour").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "sets" / "colour" / "black.png")
    part = photographs._read(tmp_path / "sets" / "renamed")
    monkeypatch.setitem(published.KNOWN_SETS, awgn.digest_of(part), known)
    noisy = digits[20:30] / 255 + 0.1 * np.random.default_rng(0).standard_normal((10, 28, 28))
    write_digits(tmp_path / "pairs" / "clean", digits[20:30])
    write_digits(tmp_path / "pairs" / "noisy", np.rint(255 * noisy.clip(0, 1)).astype(np.uint8))

    photographs.main(
        ["--gray", HANDOFF, "--sets", str(tmp_path / "sets"), "--pairs", str(tmp_path / "pairs"), "--best"]
    )
    out, err = capsys.readouterr()
    assert "colour, as there is no model of 3 channels" in err
    ours = re.findall(r"\*\*`mnist-blind`\*\* +\|([^\n]*)\|", out)
    renamed, unknown, pairs = ([float(cell) for cell in row.split("|")] for row in ours[:3])
    assert f"{known.name}, {known.images}:\n\n" in out
    assert "unknown, 10 pictures:\n\n" in out
    assert all(f"| {row.method}: {row.source} " in out for row in known.rows)
    assert len(renamed) == len(unknown) == 4  # three levels, and none
    assert sorted(renamed, reverse=True)[1:] == renamed[:3]
    assert renamed != unknown
    assert re.search(r"\| noisy picture +\| +22\.\d\d \|", out)
    assert pairs[0] > 29
    best = re.findall(r"\*\*`mnist-blind`\*\*, `--quality best` +\| +([\d.,]+) ", out)
    assert len(best) == 4  # two sets, the pairs, and the price
    assert float(best[0]) != renamed[0]  # a digit turned is none
    assert 0.9 < pairs[1] < 1
    assert re.search(r"\| \*\*`mnist-blind`\*\* +\| +227,713 \| +0\.9 MB \| +\d+\.\d\d s \|", out)


def test_models_of_other_channels_and_no_model_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PROJECT)
    from benchmarks import photographs

    with pytest.raises(SystemExit, match="the model takes 1 channels, not 3"):
        photographs.main(["--color", HANDOFF])
    with pytest.raises(SystemExit, match="2"):
        photographs.main([])
