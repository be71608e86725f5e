"""Finding images in folders as people have them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.finding import Found, find_images
from pipeline.errors import PipelineError
from pipeline.files import write_file
from pipeline.text import printable


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((28, 28), np.uint8)).save(path, "PNG")


def names(found: Found) -> list[str]:
    return [path.relative_to(found.folder).as_posix() for path in found.images]


def test_images_are_known_by_their_content_or_meant_by_their_name(tmp_path: Path) -> None:
    write(tmp_path / "a.png", tmp_path / "deep" / "er" / "b.JPG", tmp_path / "no suffix", tmp_path / "c.dat")
    np.save(tmp_path / "d.npy", np.zeros(3))
    np.savez(tmp_path / "e.zip", a=np.zeros(3))
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "f").write_bytes(b"P5 28 28 255\n" + bytes(784))
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / "g", "BMP")
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / "photo.NEF", "TIFF")
    (tmp_path / "zz.txt").write_text("P5 is not done yet")
    for name in ("paper.pdf", "weights.h5", "notes.txt", "z.zip"):
        (tmp_path / name).write_bytes(b"%PDF-1.7 of no interest" if "pdf" in name else b"PK\3\4 something else")
    (tmp_path / "broken.png").symlink_to("nowhere")
    (tmp_path / "broken.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.log")
    found = find_images(tmp_path)
    images = ["a.png", "broken.png", "c.dat", "d.npy", "deep/er/b.JPG", "e.zip.npz", "empty.png", "f", "g", "no suffix"]
    assert names(found) == images
    assert found.left_out == "left out: 8 files that are not images: broken.txt, notes.txt, paper.pdf, …"
    assert find_images(tmp_path / "deep").left_out == ""


def test_hidden_and_system_folders_are_skipped(tmp_path: Path) -> None:
    write(tmp_path / "a.png", tmp_path / "train" / "b.png")
    for folder in (".ipynb_checkpoints", "@eaDir", "__MACOSX", ".thumbnails", "train/.hidden", "train/@eaDir/b.png"):
        write(tmp_path / folder / "x.png")
    write(tmp_path / ".x.png", tmp_path / "Thumbs.db")
    found = find_images(tmp_path)
    assert names(found) == ["a.png", "train/b.png"]
    assert found.left_out == ""
    # The folder itself may be below a hidden one.
    assert names(find_images(tmp_path / "train" / ".hidden")) == ["x.png"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    write(folder / "real" / "a.png", elsewhere / "b.png", elsewhere / "c.png")
    (elsewhere / "back").symlink_to(folder)
    (folder / "again").symlink_to(folder / "real")
    (folder / "A link").symlink_to(elsewhere)
    (folder / "loop").symlink_to(folder)
    (folder / "one.png").symlink_to(elsewhere / "c.png")
    (folder / "two.png").symlink_to(folder / "real" / "a.png")
    found = find_images(folder)
    # Files and links to them in the order of their names; every file once, under its own name if it is in the folder.
    assert "real/a.png" in names(found)
    assert len({path.resolve() for path in found.images}) == len(found.images) == 3
    assert found.left_out.startswith("left out: 5 links to what is found already: A link/back, ")


def test_results_of_an_earlier_call_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a.png", tmp_path / "out" / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    found = find_images(tmp_path, without=tmp_path / "out")
    assert (names(found), found.left_out) == (["a.png"], "")
    assert names(find_images(tmp_path / "out", without=tmp_path / "out")) == ["a.png"]
    assert names(find_images(tmp_path, without=tmp_path / "missing")) == ["a.png", "out/a.png"]


def test_names_of_any_bytes_and_lengths(tmp_path: Path) -> None:
    latin, long = tmp_path / os.fsdecode(b"caf\xe9.png"), tmp_path / ("x" * 250 + ".png")
    write(latin, long)
    assert set(find_images(tmp_path).images) == {latin, long}
    (tmp_path / os.fsdecode(b"\xe9\n")).write_text("no image")
    assert find_images(tmp_path).left_out == r"left out: 1 file that is not an image: \xe9\n"
    assert printable(latin.name) == r"caf\xe9.png"
    for path in (latin, long):
        write_file(path, b"new")
        assert path.read_bytes() == b"new"


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"cannot read .*nowhere: No such file or directory"):
        find_images(tmp_path / "nowhere")


def test_many_files_and_many_links(tmp_path: Path) -> None:
    """Every file is opened once, and no list is searched: twenty thousand are found at once."""
    content = (tmp_path / "x").with_suffix(".png")
    write(content)
    data = content.read_bytes()
    for number in range(10_000):
        (tmp_path / f"{number}.png").write_bytes(data)
    for number in range(10_000):
        (tmp_path / f"link{number}.png").symlink_to(f"{number}.png")
    found = find_images(tmp_path)
    assert (len(found.images), len(found.repeats)) == (10_001, 10_000)
    assert found.left_out == ("left out: 10,000 links to what is found already: link0.png, link1.png, link10.png, …")
