"""A file means what it says: every kind of file through a model that changes nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cells import Cell, all_cells
from conftest import Cli
from small_models import write_identity

from pipeline.data.image_files import Picture, read_picture

cell_files = pytest.importorskip("cell_files", reason="not run: opencv-python-headless is not installed")


PRIVATE = {"PNG": "its chunk prVT", "JPEG": "its segment APP11", "TIFF": "its tag 65000", "BMP": "", "WEBP": ""}


def misread(cell: Cell, picture: Picture) -> str:
    """What is wrong with what the pipeline reads; "" if nothing is."""
    given = cell_files.picture_of(cell)
    if cell.form != "JPEG":
        wanted = np.moveaxis(given.colours, -1, 0)[np.newaxis]
        if picture.pixels.shape[1] == 1 and given.colours.shape[2] == 3:
            wanted = wanted[:, :1]
        if not np.allclose(picture.pixels, wanted, atol=1e-6):
            return "pixels read"
    if (picture.alpha is None) != (given.alpha is None) or (
        picture.alpha is not None and (picture.alpha[0] != given.alpha).any()
    ):
        return "alpha read"
    return "" if picture.orientation == cell.orientation else "orientation read"


def fault(cell: Cell, before: bytes, after: bytes, lost: set[str]) -> str:
    """What is wrong with a result; "" if nothing is."""
    given, source = cell_files.picture_of(cell), cell_files.read_back(before, cell.form)
    try:
        found = cell_files.read_back(after, cell.form)
    except AssertionError as error:
        return f"format {error}"
    wanted = source.colours if cell.form == "JPEG" else given.colours
    colours = found.colours
    if colours.shape[2] == 1 and wanted.shape[2] == 3:
        colours = np.broadcast_to(colours, wanted.shape)
    if (colours.dtype, colours.shape) != (wanted.dtype, wanted.shape):
        return f"depth or channels: {colours.dtype} {colours.shape} instead of {wanted.dtype} {wanted.shape}"
    difference = np.abs(colours.astype(float) - wanted)
    if difference.max() > {"JPEG": 10.0}.get(cell.form, 1e-6):
        return f"pixels: up to {difference.max():g} off"
    if (found.alpha is None) != (given.alpha is None) or (
        found.alpha != given.alpha if found.alpha is not None else np.zeros(1)
    ).any():
        return "transparency"
    kept = {kind: value for kind, value in source.said.items() if kind == "orientation" or cell.says(kind)}
    changed = {kind for kind, value in kept.items() if found.said[kind] != value}
    if changed - lost:
        return f"lost without a word: {', '.join(sorted(changed - lost))}"
    if lost - changed:
        return f"said to be lost: {', '.join(sorted(lost - changed))}"
    return ""


def test_every_file_comes_back_as_it_was_or_is_refused(tmp_path: Path, cli: Cli) -> None:
    cells = [cell for cell in all_cells() if cell.is_possible]
    names = {cell: f"{number:05}.{cell.suffix}" for number, cell in enumerate(cells)}
    (tmp_path / "in").mkdir()
    for cell, name in names.items():
        (tmp_path / "in" / name).write_bytes(cell_files.content_of(cell, cell_files.picture_of(cell)))
    model = write_identity(tmp_path / "identity")
    done = cli("denoise", "--model", model, tmp_path / "in", "--output", tmp_path / "out")
    assert done.code == 1
    refused = {line.split(": ")[0].rsplit("/", 1)[1] for line in done.err.splitlines() if line.startswith("skipped ")}
    faults: dict[str, list[Cell]] = {}
    counts: Counter[str] = Counter()
    told: Counter[str] = Counter()
    for cell, name in names.items():
        if name in refused:
            counts["refused"] += 1
            assert not (tmp_path / "out" / name).exists()
            if not (cell.depth == "32 integers" or (cell.form == "BMP" and cell.channels == "rgba")):
                faults.setdefault("refused", []).append(cell)
            continue
        before, after = ((tmp_path / folder / name).read_bytes() for folder in ("in", "out"))
        picture = read_picture(tmp_path / "in" / name)
        told.update(picture.left_out)
        lost = {"private"} if set(picture.left_out) == {PRIVATE[cell.form]} else set(picture.left_out)
        if said := misread(cell, picture) or fault(cell, before, after, lost):
            counts["wrong"] += 1
            faults.setdefault(said, []).append(cell)
        else:
            counts["right"] += 1
    print(f"{len(cells):,} files: {counts['right']:,} right, {counts['refused']:,} refused, {counts['wrong']:,} wrong")
    for what, count in told.items():
        assert f"denoise: not in the result: {what}: {tmp_path / 'in'}" in done.err
        assert f" (and {count - 1:,} more)" in done.err
    assert not faults, "\n".join(f"{said}: {len(which)}, such as {which[0]}" for said, which in faults.items())
