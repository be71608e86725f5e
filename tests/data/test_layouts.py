"""What a folder of images is: its layout by names, its groups; and what is wrong with it, in one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from folders import TEN, message_of, parts, picture, prepared, refusal, write, write_all
from PIL import Image

from pipeline.config import Config
from pipeline.data.prepared import load_prepared, prepared_folder
from pipeline.data.sources.names import NAMES
from pipeline.errors import ArgumentError
from pipeline.stages.prepare import prepare

NOT_UTF8 = os.fsdecode(b"caf\xe9.png")


@pytest.mark.parametrize(
    ("clean", "noisy", "captures"),
    [
        ("clean/{scene}.png", "noisy/{scene}.png", 1),
        ("GT/{scene}.png", "Input/{scene}.png", 1),
        ("Ground Truth/{scene}.png", "low/{scene}.npy", 1),
        ("clean_images/a/{scene}.png", "noisy_images/a/{scene}.bmp", 1),
        ("train_cleaned/{scene}.png", "train/{scene}.png", 1),
        ("a/{scene}/clean/x.png", "a/{scene}/noisy/x.png", 1),
        ("clean/{scene}_clean.png", "noisy/{scene}_noisy.png", 1),
        ("hq/IMG_{scene}_iso100.png", "lq/IMG_{scene}_iso6400.png", 1),
        ("{scene}_gt.png", "{scene}_noisy.png", 1),
        ("Data/{scene:04}/GT_SRGB_010.PNG", "Data/{scene:04}/NOISY_SRGB_010.PNG", 1),
        ("{scene}/clean.png", "{scene}/{capture}.png", 3),
        ("{scene}/Reference.png", "{scene}/noisy_{capture}.png", 2),
        ("clean/{scene}.png", "noisy/{scene}/{capture}.png", 3),
        ("gt/{scene}/avg50.png", "raw/{scene}/{capture}.png", 3),
        ("", "noisy/{scene}/{capture}.png", 3),
        ("", "bursts/{scene}/{capture}.png", 2),
        ("", "noisy/{scene}.png", 1),
    ],
)
def test_names_of_folders_and_files_say_what_belongs_together(
    clean: str, noisy: str, captures: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_all(tmp_path / "mine", clean, noisy, captures)
    data = prepared(tmp_path / "mine")
    kind = "bursts" if captures > 1 else "pairs" if clean else "noisy"
    assert data.layout == kind
    said = capsys.readouterr().out
    assert f": {'noisy images' if kind == 'noisy' else kind}: 10" in said, said
    assert [part.scene_count for part in parts(data)] == [7, 2, 1]
    seen = set()
    for part in parts(data):
        assert part.noisy is not None
        assert part.scenes is not None
        assert np.bincount(part.scenes).tolist() == [captures] * part.scene_count
        for scene in range(part.scene_count):
            images = [part.noisy[number][0].astype(int) for number in np.flatnonzero(part.scenes == scene)]
            first = images[0] - 1 if part.clean is None else part.clean[scene][0].astype(int)
            assert [int((image - first).min()) for image in images] == [*range(1, captures + 1)]
            assert all(np.ptp(image - first) == 0 for image in images)
            seen.add(first.tobytes())
    assert seen == {picture(scene).astype(int).tobytes() for scene in TEN}


@pytest.mark.parametrize("inside", [False, True])
def test_parts_of_the_dataset_stay_what_they_are(inside: bool, tmp_path: Path) -> None:
    names = ("noisy/{part}/{{scene}}.png", "clean/{part}/{{scene}}.png")
    if not inside:
        names = ("{part}/noisy/{{scene}}.png", "{part}/clean/{{scene}}.png")
    for part, scenes in (("train", range(5)), ("val", range(5, 8)), ("test", range(8, 10))):
        noisy, clean = (name.format(part=part) for name in names)
        write_all(tmp_path / "mine", clean, noisy, scenes=scenes)
    data = prepared(tmp_path / "mine")
    assert [len(part) for part in parts(data)] == [5, 3, 2]
    assert data.validation.clean is not None
    assert np.array_equal(np.asarray(data.validation.clean)[:, 0], [picture(scene) for scene in range(5, 8)])


def test_clean_images_may_come_with_validation_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part, scenes in (("train", range(7)), ("validation", range(6, 9))):
        write_all(tmp_path / "mine" / part, "{scene}.png", "", scenes=scenes)
    data = prepared(tmp_path / "mine")
    assert [len(part) for part in parts(data)] == [6, 3, 1]
    assert data.layout == "clean"
    said = capsys.readouterr().out
    assert "warning: equal images in training and validation: 1: validation/6.png and train/6.png" in said


def test_folders_can_be_given_by_options(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    write_all(mine, "originals/{scene}.png", "shots/{scene}.png")
    data = prepared(mine / "originals", noisy=str(mine / "shots"))
    assert data.layout == "pairs"
    assert data.train.clean is not None
    assert np.array_equal(np.subtract(data.train.images, data.train.clean), np.ones_like(data.train.clean))
    assert all(name.startswith("shots/") or "/" not in name for name in data.manifest["inputs"])
    # One folder twice: its images are noisy, and there are no clean ones.
    alone = prepared(mine / "shots", noisy=str(mine / "shots"))
    assert (alone.layout, alone.train.clean) == ("noisy", None)
    assert "--noisy is for folders of images, and mnist is none; give the folder of the clean" in message_of(
        lambda: prepare(Config(noisy=str(mine / "shots"), data_dir=str(tmp_path)))
    )
    with pytest.raises(ArgumentError, match="--noisy nowhere: there is no such folder"):
        prepared(mine / "originals", noisy="nowhere")
    # What to run is said with all of the options.
    config = Config(dataset=str(mine / "shots"), noisy=str(mine / "shots"), white=255, data_dir=str(tmp_path / "new"))
    assert f"prepare --dataset {mine / 'shots'} --noisy {mine / 'shots'} --white 255 --data-dir" in message_of(
        lambda: load_prepared(config)
    )


def test_images_without_a_partner_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(tmp_path / "mine", "train_cleaned/{scene}.png", "train/{scene}.png")
    write_all(tmp_path / "mine", "", "test/{scene}.png", scenes=range(20, 24))
    data = prepared(tmp_path / "mine")
    assert data.layout == "pairs"
    assert sum(len(part) for part in parts(data)) == 10
    assert (
        "pairs: 10 noisy with 10 clean, 4 without a partner: test/20.png, test/21.png, test/22.png and 1 more; "
        "8 bits: white 255, black 0\n"
    ) in capsys.readouterr().out


def test_what_looks_like_pairs_and_is_not_is_never_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(tmp_path / "pairs", "clean/a{scene}b.png", "")
    write_all(tmp_path / "pairs", "", "noisy/c{scene}.png", scenes=range(20, 30))
    message = refusal(tmp_path / "pairs")
    assert "looks like pairs, but no noisy image has the name of a clean one" in message
    assert "noisy/c20.png" in message
    assert "clean/a0b.png" in message
    write_all(tmp_path / "both", "photos/{scene}.png", "noisy/x{scene}.png")
    assert "10 images in folders whose names say that they are noisy" in refusal(tmp_path / "both")
    write_all(tmp_path / "data", "low/{scene}.png", "")
    assert prepared(tmp_path / "data").layout == "clean"
    assert "as there is no folder of clean ones beside low" in capsys.readouterr().out


def test_images_of_one_scene_that_show_different_things_are_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_all(tmp_path / "bursts", "", "noisy/{scene}/{capture}.png", captures=3)
    prepared(tmp_path / "bursts")
    assert "warning" not in capsys.readouterr().out
    for scene in TEN:
        write(tmp_path / "days" / "noisy" / str(scene % 3) / f"{scene}.png", picture(scene))
    prepared(tmp_path / "days")
    said = capsys.readouterr().out
    assert "bursts: 3 scenes with 3 to 4 captures each" in said
    assert (
        "warning: these should show one scene each, and hardly resemble each other: noisy/0/9.png and noisy/0/0" in said
    )


def test_every_page_of_a_stack_is_an_image(tmp_path: Path) -> None:
    for stack in range(3):
        scenes = range(4 * stack, 4 * stack + 4)
        write(tmp_path / "pairs" / "clean" / f"{stack}.tif", *(picture(scene) for scene in scenes))
        write(tmp_path / "pairs" / "noisy" / f"{stack}.npy", *(picture(scene, 1) for scene in scenes))
        write(tmp_path / "bursts" / "noisy" / f"{stack}" / "x.tif", *(picture(stack, capture) for capture in (1, 2, 3)))
        write(tmp_path / "averages" / "noisy" / f"{stack}.tif", *(picture(stack, capture) for capture in (1, 2, 3)))
        write(tmp_path / "averages" / "clean" / f"{stack}.png", picture(stack))
    pairs = prepared(tmp_path / "pairs")
    assert sum(len(part) for part in parts(pairs)) == 12
    for part in parts(pairs):
        assert part.clean is not None
        assert np.array_equal(np.subtract(part.images, part.clean), np.ones_like(part.clean))
    for name in ("bursts", "averages"):
        data = prepared(tmp_path / name)
        assert (data.layout, [len(part) for part in parts(data)]) == ("bursts", [3, 3, 3])
    write(tmp_path / "averages" / "clean" / "1.tif", picture(1), picture(7))
    (tmp_path / "averages" / "clean" / "1.png").unlink()
    message = message_of(lambda: prepared(tmp_path / "averages"))
    assert "clean/1.tif holds 2 images for 3 noisy ones in noisy/1.tif; allowed are as many as there" in message


@pytest.mark.parametrize("group", ["folder", r"(cell\d)_", r"cell\d"])
def test_groups_are_never_separated(group: str, tmp_path: Path) -> None:
    for scene in range(20):
        write(tmp_path / "mine" / f"cell{scene % 5}" / f"cell{scene % 5}_{scene}.png", picture(scene))
    data = prepared(tmp_path / "mine", group=group)
    known = {picture(scene).tobytes(): scene % 5 for scene in range(20)}
    found = [{known[image.tobytes()] for image in part.images} for part in parts(data)]
    assert sorted(cell for cells in found for cell in cells) == [0, 1, 2, 3, 4]
    assert [len(part) for part in parts(data)] == [12, 4, 4]
    assert "--group x\\d: it finds nothing in cell0/cell0_0.png" in message_of(
        lambda: prepared(tmp_path / "mine", group=r"x\d")
    )
    assert "--group (: it is neither folder nor a regular expression" in message_of(
        lambda: prepared(tmp_path / "mine", group="(")
    )
    assert "has 20 images in 1 group kept together; it needs at least 3 groups" in message_of(
        lambda: prepared(tmp_path / "mine", group="cell")
    )


def test_equal_images_stay_together_and_are_refused_in_the_test_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_all(tmp_path / "mine", "a/{scene}.png", "")
    for scene in TEN:
        write(tmp_path / "mine" / "b" / f"{scene}.bmp", picture(scene))
    for scene in range(2):
        write(tmp_path / "mine" / "empty" / f"{scene}.png", np.zeros((32, 40), np.uint8))  # says nothing
    data = prepared(tmp_path / "mine")
    assert (
        "equal images, which stay in one part: 10: b/0.bmp and a/0.png; b/1.bmp and a/1.png" in capsys.readouterr().out
    )
    found = [{image.tobytes() for image in part.images if image.any()} for part in parts(data)]
    assert all(one.isdisjoint(other) for index, one in enumerate(found) for other in found[:index])

    write_all(tmp_path / "apart", "train/{scene}.png", "")
    write_all(tmp_path / "apart", "test/x{scene}.png", "", scenes=range(8, 12))
    message = "test images are equal to images to train on, 2 in all: test/x8.png and train/8.png; test/x9.png and "
    assert message_of(lambda: prepared(tmp_path / "apart")) == f"{message}train/9.png"


def _replace(folder: Path, array: np.ndarray) -> None:
    (folder / "noisy" / "3.png").unlink()
    np.save(folder / "noisy" / "3.npy", array)


def _rename(folder: Path) -> None:
    for role in ("noisy", "clean"):
        (folder / role / "3.png").rename(folder / role / NOT_UTF8)
    (folder / "noisy" / NOT_UTF8).write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: write(folder / "noisy" / "3.png", picture(3)[:30]), "noisy/3.png is 30x40 pixels (height x"),
        (lambda folder: write(folder / "clean" / "3.bmp", picture(3)), "clean/3.bmp and clean/3.png have one name, so"),
        (lambda folder: _replace(folder, np.zeros((2, 1, 0, 9))), "3.npy: it is empty"),
        (lambda folder: _replace(folder, np.full((32, 40), np.nan)), "3.npy: it holds NaN"),
        (lambda folder: write(folder / "noisy" / "3.png", picture(3, 0, np.uint16)), "noisy/3.png has 16 bits"),
        (lambda folder: Image.new("RGB", (40, 32)).save(folder / "clean" / "3.png"), "clean/3.png has 3 channels (col"),
        (_rename, "noisy/caf\\xe9.png: it is not in a known"),
    ],
)
def test_bad_input_is_one_line_that_names_the_file(spoil: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    write_all(tmp_path / "mine", "clean/{scene}.png", "noisy/{scene}.png")
    spoil(tmp_path / "mine")
    assert message in refusal(tmp_path / "mine")


def test_all_unreadable_files_are_named_at_once(tmp_path: Path) -> None:
    write_all(tmp_path / "mine", "{scene}.png", "")
    (tmp_path / "mine" / "3.png").write_bytes(b"")
    (tmp_path / "mine" / "7.png").write_bytes((tmp_path / "mine" / "6.png").read_bytes()[:100])
    message = refusal(tmp_path / "mine")
    assert message.startswith("cannot use 2 of 10 images: ")
    assert "3.png: it is not in a known image format" in message
    assert "7.png: it cannot be read" in message


def test_names_that_are_not_utf8_work(cli: Cli, tmp_path: Path) -> None:
    write_all(tmp_path / "mine", "{scene}.png", "")
    (tmp_path / "mine" / "3.png").rename(tmp_path / "mine" / NOT_UTF8)
    (tmp_path / "mine" / "4.png").write_bytes((tmp_path / "mine" / NOT_UTF8).read_bytes())
    done = cli("prepare", "--dataset", "mine")
    assert (done.code, done.err) == (0, ""), done
    assert "stay in one part: 1: caf\\xe9.png and 4.png" in done.out
    assert "reusing" in cli("prepare", "--dataset", "mine").out


def test_what_training_would_refuse_is_refused_at_once(tmp_path: Path) -> None:
    write_all(tmp_path / "mine", "{scene}.png", "")
    write(tmp_path / "mine" / "x.png", picture(20)[:20])
    assert "x.png is 20x40 (height x width)" in refusal(tmp_path / "mine")


def test_other_files_and_hidden_folders_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(tmp_path / "mine", "{scene}.png", "")
    (tmp_path / "mine" / "paper.pdf").write_bytes(b"%PDF-1.7")
    (tmp_path / "mine" / "weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    for hidden in (".ipynb_checkpoints", "@eaDir", ".thumbnails"):
        write_all(tmp_path / "mine" / hidden, "{scene}.png", "", scenes=range(2))
    data = prepared(tmp_path / "mine")
    assert sum(len(part) for part in parts(data)) == 10
    assert "left out: 2 files that are not images: paper.pdf, weights.h5" in capsys.readouterr().out


def test_a_scene_with_one_capture_is_named_where_two_are_needed(cli: Cli, tmp_path: Path) -> None:
    write_all(tmp_path / "mine", "", "noisy/{scene}/{capture}.png", captures=2)
    (tmp_path / "mine" / "noisy" / "3" / "2.png").unlink()
    done = cli("run", "--dataset", "mine", "--target", "noisy2noisy")
    assert done.code == 2, done
    assert done.err.rstrip().endswith("mine has scenes with one only, such as noisy/3/1.png"), done


def test_every_name_stands_once_in_the_table() -> None:
    names = [name for meaning in NAMES.values() for name in meaning]
    assert len(names) == len(set(names))
    assert all(name == name.lower() for name in names)


def test_the_folder_of_one_dataset_prepared_in_two_ways_is_not_the_same(tmp_path: Path) -> None:
    ways: list[dict[str, object]] = [{}, {"channels": 1}, {"white": 300}, {"group": "folder"}, {"noisy": str(tmp_path)}]
    folders = {prepared_folder(Config(dataset=str(tmp_path), **way)) for way in ways}  # type: ignore[arg-type]
    assert len(folders) == len(ways)
