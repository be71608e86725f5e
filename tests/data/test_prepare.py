"""prepare: real files, damaged in every way that a file can be."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import HANG, PROJECT, Cli, environment, start, write_digits
from PIL import Image
from torchvision import datasets
from warm import run_forked

from pipeline.config import Config
from pipeline.data import prepared
from pipeline.data.images import Images, Levels, Part
from pipeline.data.prepared import load_prepared, prepared_folder
from pipeline.data.sources import Division
from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.data.sources.torchvision_sets import TorchvisionSet
from pipeline.errors import PipelineError
from pipeline.files import sha256_file
from pipeline.stages.prepare import prepare, split

BUNDLE = PROJECT / "pipeline" / "data" / "sources" / "mnist"


def config(tmp_path: Path, dataset: object = "mnist", seed: int = 0) -> Config:
    return Config(dataset=str(dataset), data_dir=str(tmp_path / "data"), seed=seed)


def gray(images: Images | Part) -> np.ndarray:
    """uint8 [N, H, W] of gray images of one size."""
    return np.stack(list(images.images if isinstance(images, Part) else images))[:, 0]


def left_behind(folder: Path) -> list[str]:
    """Anything but finished folders and lock files."""
    return [path.name for path in folder.rglob(".*") if path.suffix != ".lock"]


def write_idx(path: Path, images: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, *images.shape) + images.tobytes())


def narrow_image(path: Path) -> bool:
    Image.new("L", (10, 28)).save(path)
    return True


def test_all_70000_digits_are_split_by_the_seed(tmp_path: Path, digits: np.ndarray) -> None:
    data = prepare(config(tmp_path))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [48_000, 12_000, 10_000]
    assert (data.dtype, data.channels, data.levels) == (np.uint8, 1, Levels(255, 0))
    assert data.train.images[0].shape == (1, 28, 28)
    # Those of every version so far: runs can be compared with those of an earlier one.
    assert data.digest == "3c93e7446cd746cb8afa5adcb33aa8af4a8940f51ccb28bdf6ad56af94a7a09d"
    assert data.test_digest == "b5eacb271cad91d8c5bf59205ea56ee965234df25fec7b7a62a5092130040326"
    assert data.test_labels is not None
    assert data.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.array_equal(gray(data.test), digits)
    # Every training image once: the same multiset of rows.
    together = np.concatenate([data.train.images, data.validation.images]).reshape(60_000, -1)
    original = BundledMNIST().images()[0].reshape(60_000, -1)
    assert sorted(map(hash, map(bytes, together))) == sorted(map(hash, map(bytes, original)))

    other = prepare(config(tmp_path, seed=1))
    assert not np.array_equal(other.train.images, data.train.images)
    assert other.digest != data.digest
    manifest = json.loads((prepared_folder(config(tmp_path)) / "manifest.json").read_text())
    assert manifest["inputs"].keys() == {
        *("train-images-idx3-ubyte.xz", "t10k-images-idx3-ubyte.xz", "t10k-labels-idx1-ubyte.xz")
    }
    for name, entry in manifest["files"].items():
        content = (prepared_folder(config(tmp_path)) / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]


def test_the_sums_of_the_bundle_are_those_of_the_original_files() -> None:
    lines = (BUNDLE / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split() for line in lines)}
    assert len(sums) == 8
    for path in BUNDLE.glob("*.xz"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sums[path.name]
        raw = lzma.decompress(path.read_bytes())
        assert hashlib.sha256(raw).hexdigest() == sums[path.stem]
        if path.stem == "train-images-idx3-ubyte":
            assert hashlib.md5(raw).hexdigest() == "6bbc9ace898e44ae57da46a324031adb"


def test_preparing_again_reuses_and_says_so(
    tmp_path: Path, digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    where = config(tmp_path, write_digits(tmp_path / "digits", digits[:30]))
    first = prepare(where)
    assert "21 training, 5 validation and 4 test images of 28x28" in capsys.readouterr().out
    again = prepare(where)
    said = capsys.readouterr().out
    assert "reusing" in said
    assert "verified" in said
    assert again.digest == first.digest
    assert np.array_equal(again.train.images, first.train.images)

    Image.fromarray(digits[99]).save(tmp_path / "digits" / "0000.png")
    prepare(where)
    assert "preparing again, changed: inputs" in capsys.readouterr().out
    prepare(where, force=True)
    assert "reusing" not in capsys.readouterr().out


def test_the_split_takes_every_image_once_and_test_images_do_not_depend_on_the_seed() -> None:
    images = np.arange(70, dtype=np.uint8).reshape(70, 1, 1, 1).repeat(28, 2).repeat(28, 3)

    def chosen(seed: int, test: Images | None = None) -> dict[str, list[int]]:
        parts = split(
            Division(Part(images), test=None if test is None else Part(test)), Config(dataset="any", seed=seed)
        )
        return {name: [int(of.images[index][0, 0, 0]) for index in places] for name, (of, places) in parts.items()}

    one, other = chosen(0), chosen(1)
    assert [len(one[part]) for part in ("train", "validation", "test")] == [48, 12, 10]
    assert sorted([*one["train"], *one["validation"], *one["test"]]) == list(range(70))
    assert one["test"] == other["test"]
    assert one["train"] != other["train"]
    # Test images of the dataset's own stay what they are.
    given = chosen(0, images[:5] + 100)
    assert given["test"] == [100, 101, 102, 103, 104]
    assert (len(given["train"]), len(given["validation"])) == (56, 14)


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_damaged_prepared_data_is_found_and_made_again(
    damage: str, tmp_path: Path, digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    where = config(tmp_path, write_digits(tmp_path / "digits", digits[:30]))
    prepare(where)
    path = prepared_folder(where) / "train.npy"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(content[:-1])
    else:
        path.unlink()
    with pytest.raises(PipelineError, match=r"train\.npy"):
        load_prepared(where)
    prepare(where)
    assert "preparing again: " in capsys.readouterr().out
    load_prepared(where)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "swapped", "missing"])
def test_a_damaged_bundle_is_one_line_with_both_sums(damage: str, tmp_path: Path) -> None:
    folder = shutil.copytree(BUNDLE, tmp_path / "mnist")
    name = "t10k-images-idx3-ubyte.xz"
    path = folder / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        if damage == "truncated":
            del content[len(content) // 2 :]
        elif damage == "flipped":
            content[1000] ^= 1
        else:
            content = bytearray((folder / "train-images-idx3-ubyte.xz").read_bytes())
        path.write_bytes(content)
    with pytest.raises(PipelineError) as error:
        BundledMNIST(folder).inputs()
    message = str(error.value)
    assert name in message
    assert "\n" not in message
    if damage != "missing":
        assert hashlib.sha256(content).hexdigest() in message
        assert hashlib.sha256((BUNDLE / name).read_bytes()).hexdigest() in message


def test_a_folder_with_train_and_test_keeps_them_apart(tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "set" / "train", digits[:20])
    write_digits(tmp_path / "set" / "test", digits[20:25])
    data = prepare(config(tmp_path, tmp_path / "set"))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [16, 4, 5]
    assert np.array_equal(gray(data.test), digits[20:25])


def test_a_folder_may_hold_many_kinds_of_image(
    tmp_path: Path, digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "set" / "train" / "deeper"
    folder.mkdir(parents=True)
    write_digits(tmp_path / "set" / "test", digits[5:6])
    Image.fromarray(digits[0]).convert("RGB").save(folder / "a.bmp")
    Image.fromarray(digits[1]).convert("RGBA").save(folder / "b.webp", lossless=True)
    Image.fromarray(digits[2]).convert("P").save(folder / "c.gif")
    Image.fromarray(digits[3]).save(folder / "d.jp2", irreversible=False)
    np.save(folder / "e.npy", digits[4])
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_text("not an image")
    data = prepare(replace(config(tmp_path, tmp_path / "set"), channels=1))
    assert "left out: 1 file that is not an image: train/deeper/notes.txt" in capsys.readouterr().out
    assert sorted(map(bytes, gray([*data.train.images, *data.validation.images]))) == sorted(map(bytes, digits[:5]))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: [path.unlink() for path in folder.iterdir()], "no images in"),
        (lambda folder: [path.unlink() for path in list(folder.iterdir())[1:]], "has 1 image; it needs at least 3"),
        (
            lambda folder: (folder / "0003.png").write_bytes(b""),
            "cannot use .*0003.png: it is not in a known image format",
        ),
        (
            lambda folder: (folder / "0003.png").write_bytes(b"\x89PNG\r\n\x1a\n junk"),
            "cannot use .*0003.png: it cannot be read",
        ),
        (lambda folder: Image.new("F", (28, 28)).save(folder / "0003.tiff"), "0003.tiff has floats; all images of"),
        (lambda folder: all(narrow_image(path) for path in folder.iterdir()), "28x10 pixels .*; at least 11x11"),
    ],
)
def test_a_bad_folder_is_one_line(break_it, message: str, tmp_path: Path, digits: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    folder = write_digits(tmp_path / "digits", digits[:5])
    break_it(folder)
    with pytest.raises(PipelineError, match=message) as error:
        prepare(config(tmp_path, folder))
    assert "\n" not in str(error.value)
    assert not prepared_folder(config(tmp_path, folder)).exists()
    assert left_behind(tmp_path) == []


def test_another_set_is_found_where_torchvision_keeps_it(tmp_path: Path, digits: np.ndarray) -> None:
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    write_idx(raw / "train-images-idx3-ubyte", digits[:50])
    write_idx(raw / "t10k-images-idx3-ubyte", digits[50:60])
    data = prepare(config(tmp_path, "fashion-mnist"))
    assert np.array_equal(gray(data.test), digits[50:60])
    assert (len(data.train), len(data.validation)) == (40, 10)


def test_emnist_is_turned_upright(tmp_path: Path, digits: np.ndarray) -> None:
    raw = tmp_path / "data" / "EMNIST" / "raw"
    mirrored = digits.transpose(0, 2, 1)
    write_idx(raw / "emnist-letters-train-images-idx3-ubyte", mirrored[:10])
    write_idx(raw / "emnist-letters-test-images-idx3-ubyte", mirrored[10:12])
    data = prepare(config(tmp_path, "emnist-letters"))
    assert np.array_equal(gray(data.test), digits[10:12])


def test_an_archive_with_the_wrong_sum_is_refused(tmp_path: Path, digits: np.ndarray) -> None:
    raw = tmp_path / "data" / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    content = gzip.compress(digits[:10].tobytes())
    (raw / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(PipelineError) as error:
        prepare(config(tmp_path, "kmnist"))
    assert "train-images-idx3-ubyte.gz is damaged" in str(error.value)
    assert hashlib.md5(content).hexdigest() in str(error.value)
    assert dict(datasets.KMNIST.resources)["train-images-idx3-ubyte.gz"] in str(error.value)


@pytest.mark.parametrize("cut", range(0, 17, 4))
def test_a_truncated_idx_file_is_one_line(cut: int, tmp_path: Path, digits: np.ndarray) -> None:
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    write_idx(raw / "train-images-idx3-ubyte", digits[:50])
    write_idx(raw / "t10k-images-idx3-ubyte", digits[50:60])
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(PipelineError, match=r"train-images-idx3-ubyte is (truncated|not an idx file)"):
        prepare(config(tmp_path, "fashion-mnist"))


def test_every_set_of_the_table_is_one_that_torchvision_knows(tmp_path: Path) -> None:
    for class_name, part in [("FashionMNIST", None), ("KMNIST", None), ("QMNIST", None), ("EMNIST", "letters")]:
        source = TorchvisionSet(tmp_path, class_name, part)
        train, test = source._raw_names()
        assert train.endswith("train-images-idx3-ubyte")
        assert test.endswith(("t10k-images-idx3-ubyte", "test-images-idx3-ubyte"))


def test_without_a_network_the_message_says_which_files_to_put_where(cli: Cli, tmp_path: Path) -> None:
    # A proxy that nobody listens at: every download fails at once.
    nowhere = "http://127.0.0.1:9"
    done = cli("prepare", "--dataset", "kmnist", http_proxy=nowhere, https_proxy=nowhere)
    assert done.code == 1
    assert "KMNIST" in done.err
    assert "put train-images-idx3-ubyte.gz" in done.err
    assert "Traceback" not in done.err
    assert left_behind(tmp_path) == []


def test_two_at_once_do_not_disturb_each_other(tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:30])
    folders = [tmp_path / name for name in "abc"]
    processes = []
    for folder in folders:
        folder.mkdir()
        words = ["prepare", "--dataset", "digits"]
        processes.append(start(run_forked, "pipeline", words, tmp_path, environment(), folder))
    for process in processes:
        process.join(HANG)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sum("reusing" in (folder / "out").read_text() for folder in folders) == 2


def test_a_read_only_data_folder_is_one_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    done = cli("prepare", "--data-dir", "data/below")
    assert done.code in (1, 2)
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    ["[" * 20_000, "[]", "3", '{"files": [], "digest": 1}', '{"files": {"train.npy": [1]}, "source": 3}', "\xff"],
)
def test_a_manifest_of_any_content_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    made = config(tmp_path)
    folder = prepared_folder(made)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(PipelineError, match=str(folder)):
        load_prepared(made)


@pytest.mark.parametrize(
    "content",
    [
        np.zeros((2, 1), np.uint8),
        np.zeros((2, 1, 28, 28), np.float64),
        np.zeros((2, 1, 0, 28), np.uint8),
        {"arr_0": np.zeros(28, np.uint8)},
        {"arr_0": np.zeros((1, 28, 28), np.int64)},
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, content: np.ndarray | dict[str, np.ndarray]) -> None:
    with pytest.raises(PipelineError, match="does not hold what it must"):
        load_prepared(forged(tmp_path, content))


def test_bytes_are_not_taken_for_the_addresses_of_objects(tmp_path: Path) -> None:
    made = forged(tmp_path, {"arr_0": np.zeros((1, 8, 8), np.int64)}, lambda data: data.replace(b"'<i8'", b"'|O' "))
    with pytest.raises(PipelineError, match="holds objects"):
        load_prepared(made)


def forged(
    folder: Path, content: np.ndarray | dict[str, np.ndarray], change: Callable[[bytes], bytes] = lambda data: data
) -> Config:
    """Prepared data whose checksums are right, but not its training images."""
    made = config(folder)
    place = prepared_folder(made)
    place.mkdir(parents=True)
    file = io.BytesIO()
    if isinstance(content, dict):
        with zipfile.ZipFile(file, "w") as archive:
            for key, array in content.items():
                member = io.BytesIO()
                np.save(member, array)
                archive.writestr(f"{key}.npy", change(member.getvalue()))
    else:
        np.save(file, content)
    name = "train.npz" if isinstance(content, dict) else "train.npy"
    (place / name).write_bytes(file.getvalue())
    files = {name: {"sha256": sha256_file(place / name), "dtype": "uint8"}}
    manifest = {"files": files, "digest": prepared._digest(files, Levels())}
    (place / "manifest.json").write_text(json.dumps(manifest))
    return made
