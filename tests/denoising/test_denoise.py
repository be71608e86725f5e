"""`denoise` on real files of every kind, with the model of a real hand-off."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from conftest import PROJECT, Cli, Trained, without
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image


@pytest.fixture
def photo(digits: np.ndarray) -> np.ndarray:
    """uint8 [61, 83]: digits side by side, of odd sizes."""
    return np.concatenate([np.concatenate(digits[i : i + 3], axis=1) for i in (0, 3, 6)])[:61, :83]


def colour(gray: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3], its channels different images."""
    return np.stack([gray, gray[::-1], gray[:, ::-1]], axis=-1)


def expected(trained: Trained, plane: np.ndarray, white: float) -> np.ndarray:
    """What the model makes of one channel [H, W], in the type of `plane`."""
    session = onnxruntime.InferenceSession(trained.handoff / "model.onnx")
    noisy = plane[np.newaxis, np.newaxis].astype(np.float32) / np.float32(white)
    denoised = session.run(["denoised"], {"noisy": noisy})[0][0, 0]
    return np.rint(denoised * np.float32(white)).astype(plane.dtype) if white > 1 else denoised


def named_by_the_page() -> list[str]:
    """The packages that `denoise` needs, as the page about the hand-off says."""
    page = (PROJECT / "docs" / "handoff.md").read_text()
    found = re.search(r"no torch \(`pip install ([^`]+)`\)", page)
    assert found
    return found[1].split()


def modules_beside(packages: list[str]) -> tuple[str, ...]:
    """The modules of all other packages here that these do not bring along."""
    brought: set[str] = set()
    while packages:
        name = canonicalize_name(packages.pop())
        if name not in brought:
            brought.add(name)
            needs = map(Requirement, metadata.requires(name) or ())
            packages += [need.name for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]
    modules = metadata.packages_distributions()
    assert "torch" in modules
    return tuple(
        module
        for module, owners in modules.items()
        if not brought & {*map(canonicalize_name, owners)} and "denoise-pipeline" not in owners
    )


def run(cli: Cli, trained: Trained, *arguments: object) -> Any:
    return cli("denoise", "--model", trained.handoff, *arguments)


def test_files_of_every_kind_keep_names_depth_and_colour(trained: Trained, photo: np.ndarray, tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    deep = photo.astype(np.uint16) * 257
    alpha = np.full_like(photo, 77)
    arrays: dict[str, np.ndarray] = {
        "gray.png": photo,
        "gray.bmp": photo,
        "gray.tif": photo,
        "deep/gray16.png": deep,
        "deep/gray16.tiff": deep,
        "colour.png": colour(photo),
        "colour.webp": colour(photo),
        "colour.tif": colour(photo),
        "alpha.png": np.concatenate([colour(photo), alpha[..., np.newaxis]], axis=-1),
        "grayalpha.png": np.stack([photo, alpha], axis=-1),
    }
    for name, array in arrays.items():
        options: dict[str, Any] = {"lossless": True} if name.endswith("webp") else {}
        Image.fromarray(array).save(source / name, **options)
    Image.fromarray(photo).save(source / "gray.jpg", quality=100)
    Image.fromarray(colour(photo)).convert("P").save(source / "palette.png")
    Image.fromarray(photo > 128).save(source / "one-bit.png")
    np.save(source / "gray.npy", photo)
    np.save(source / "floats.npy", photo.astype(np.float64) / 255)
    np.save(source / "batch.npy", np.stack([photo, photo[::-1]])[:, np.newaxis].astype(np.float32) / 255)
    np.save(source / "colour16.npy", colour(photo).astype(np.uint16) * 257)

    # The receiving team has no torch, and no more than the page asks for.
    command = "denoise", "--model", trained.handoff, source, "--output", tmp_path / "out"
    done = without(modules_beside(named_by_the_page()), *command)
    said = f"denoise: not in the result: 1 bit per pixel (it has 8, for gray levels): {source / 'one-bit.png'}\n"
    assert (done.code, done.err) == (0, said), done
    assert done.out == (
        "denoise: small, each channel by itself: 6 files; small: 11 files\n"
        f"denoise: 17 of 17 files, in {tmp_path / 'out'}\n"
    )
    names = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("[!.]*.*")} == names

    for name, array in arrays.items():
        with Image.open(tmp_path / "out" / name) as image:
            found = np.asarray(image)
        assert (found.dtype, found.shape) == (array.dtype, array.shape), name
        colours = array.shape[2] - (name in ("alpha.png", "grayalpha.png")) if array.ndim == 3 else 1
        planes = array.reshape(*photo.shape, -1)
        for channel in range(planes.shape[2]):
            wanted = planes[..., channel]
            if channel < colours:
                wanted = expected(trained, wanted, 65535 if array.dtype == np.uint16 else 255)
            # Other channels beside it may change the last bit of a sum.
            difference = found.reshape(planes.shape)[..., channel].astype(int) - wanted
            assert np.abs(difference).max() <= 1, name
    with Image.open(tmp_path / "out" / "palette.png") as image:
        assert image.mode == "RGB"
    floats = np.load(tmp_path / "out" / "floats.npy")
    assert floats.dtype == np.float64
    np.testing.assert_allclose(floats, expected(trained, (photo / 255).astype(np.float32), 1), atol=1e-6)
    assert np.load(tmp_path / "out" / "batch.npy").shape == (2, 1, *photo.shape)
    assert np.load(tmp_path / "out" / "colour16.npy").dtype == np.uint16


def test_sixteen_bit_colour_keeps_its_lower_bits(trained: Trained, photo: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    cv2 = pytest.importorskip("cv2", reason="not run: opencv-python-headless is not installed")
    array = colour(photo).astype(np.uint16) * 257
    array[0, 0] = (1, 2, 3)
    cv2.imwrite(str(tmp_path / "deep.png"), array)
    done = run(cli, trained, tmp_path / "deep.png", "--output", tmp_path / "out")
    assert done.code == 0, done
    found = cv2.imread(str(tmp_path / "out" / "deep.png"), cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint16
    for channel in range(3):
        difference = found[..., channel].astype(int) - expected(trained, array[..., channel], 65535)
        assert np.abs(difference).max() <= 1


def test_the_profile_and_the_orientation_stay(trained: Trained, photo: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(photo).save(tmp_path / "turned.jpg", exif=exif, icc_profile=b"profile", dpi=(300, 300))
    assert run(cli, trained, tmp_path / "turned.jpg", "--output", tmp_path / "out").code == 0
    with Image.open(tmp_path / "out" / "turned.jpg") as image:
        assert image.size == (83, 61)
        assert image.getexif()[0x0112] == 6
        assert image.info["icc_profile"] == b"profile"
        assert image.info["dpi"] == (300, 300)


def test_unreadable_files_are_skipped_and_told(trained: Trained, photo: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    source = tmp_path / "in"
    source.mkdir()
    Image.fromarray(photo).save(source / "good.png")
    (source / "cut.png").write_bytes((source / "good.png").read_bytes()[:200])
    (source / "text.jpg").write_text("no image")
    (source / "empty.png").write_bytes(b"")
    (source / "broken.png").symlink_to("nowhere")
    broken = photo.astype(np.float32)
    np.save(source / "range.npy", broken)
    broken[0, 0] = np.nan
    np.save(source / "nan.npy", broken)
    np.save(source / "integers.npy", photo.astype(np.int64))
    np.save(source / "shape.npy", np.zeros((2, 5, 7, 9, 11), np.float32))
    np.save(source / "channels.npy", np.zeros((2, 65, 70, 90), np.uint8))
    np.save(source / "none.npy", np.zeros((0, 1, 28, 28), np.float32))
    np.save(source / "objects.npy", np.array([{}]), allow_pickle=True)

    done = run(cli, trained, source, "--output", tmp_path / "out")
    assert done.code == 1
    assert done.out == f"denoise: 1 of 12 files, in {tmp_path / 'out'}\n"
    lines = done.err.splitlines()
    assert lines[-1] == "Error: 11 of 12 files were skipped"
    said = {Path(line.split(": ")[0].removeprefix("skipped ")).name: line for line in lines[:-1]}
    for name, part in {
        "cut.png": "it cannot be read",
        "broken.png": "No such file or directory",
        "text.jpg": "it is not in a known image format",
        "empty.png": "it is not in a known image format",
        "range.npy": "its values range from 0 to 255, but a noisy image with white 1 stays within -2 to 3",
        "nan.npy": "it holds NaN or infinity",
        "integers.npy": "it holds int64; allowed are uint8, uint16, and floats on the [0, 1] scale",
        "shape.npy": "it has the shape [2, 5, 7, 9, 11]; allowed are [H, W]",
        "channels.npy": "it has 65 channels (its shape is [2, 65, 70, 90]); at most 64 are allowed",
        "none.npy": "it is empty: its shape is [0, 1, 28, 28]",
        "objects.npy": "it holds Python objects (pickled) instead of numbers",
    }.items():
        assert part in said[name]
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == ["good.png"]


def test_an_input_is_never_overwritten(trained: Trained, photo: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(photo).save(tmp_path / name / "same.png")
    before = (tmp_path / "a" / "same.png").read_bytes()
    for output in (tmp_path / "a", tmp_path / "link"):
        if output.name == "link":
            output.symlink_to(tmp_path / "a")
        done = run(cli, trained, tmp_path / "a", "--output", output)
        assert done.code == 2
        assert "would be overwritten; choose an --output other than its own folder" in done.err
    done = run(cli, trained, tmp_path / "a" / "same.png", tmp_path / "b" / "same.png", "--output", tmp_path / "out")
    assert done.code == 2
    assert "would both be written to" in done.err
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "a" / "same.png").read_bytes() == before
    # The results of an earlier call are not taken as inputs.
    for _ in range(2):
        assert run(cli, trained, tmp_path / "a", "--output", tmp_path / "a" / "out").code == 0
    assert [path.name for path in (tmp_path / "a" / "out").rglob("[!.]*")] == ["same.png"]


def test_noise_can_be_added_to_try_it(trained: Trained, digits: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "in").mkdir()
    for index in range(40):
        Image.fromarray(digits[index]).save(tmp_path / "in" / f"{index}.png")
    done = run(cli, trained, tmp_path / "in", "--output", tmp_path / "out", "--variance", "0.01")
    assert done.code == 0, done
    noisy, denoised = (float(part.split()[0]) for part in done.out.split("noisy ")[1].split("denoised "))
    assert 22 < noisy < 23.5  # clipped, for the comparison
    assert denoised > noisy + 1
    # The same files get the same noise, also in other company.
    again = run(cli, trained, tmp_path / "in" / "7.png", "--output", tmp_path / "one", "--variance", "0.01")
    assert again.code == 0
    assert (tmp_path / "one" / "7.png").read_bytes() == (tmp_path / "out" / "7.png").read_bytes()


def test_large_images_have_no_seam_and_need_little_memory(
    trained: Trained, digits: np.ndarray, tmp_path: Path, cli: Cli
) -> None:
    """In tiles it is what it is at once; and 8,000 x 8,000 pixels fit into 2 GB."""
    wall = np.concatenate([np.concatenate(digits[i * 30 : (i + 1) * 30], axis=1) for i in range(30)])  # 840 x 840
    Image.fromarray(wall).save(tmp_path / "wall.png")
    assert run(cli, trained, tmp_path / "wall.png", "--output", tmp_path / "out").code == 0
    with Image.open(tmp_path / "out" / "wall.png") as image:
        difference = np.abs(np.asarray(image).astype(int) - expected(trained, wall, 255).astype(int))
    assert difference.max() <= 1  # the last bit of a sum may decide a rounding
    assert (difference > 0).mean() < 1e-4

    large = np.tile(wall, (10, 10))[:8000, :8000]
    Image.fromarray(large).save(tmp_path / "large.png", compress_level=1)
    code = (
        "import resource, sys; from pipeline.denoising.command import denoise; from pathlib import Path; "
        f"denoise({str(trained.handoff)!r}, [Path('large.png')], Path('large-out'), 0.0, 0); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300
    )
    assert int(done.stdout.split()[-1]) < 2_000_000  # KB
    with Image.open(tmp_path / "large-out" / "large.png") as image:
        assert image.size == (8000, 8000)


def test_a_model_that_cannot_be_used(trained: Trained, photo: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    broken = Path(shutil.copytree(trained.handoff, tmp_path / "broken"))
    with (broken / "model.onnx").open("r+b") as file:
        file.seek(5000)
        file.write(b"\0\1\2\3")
    (tmp_path / "text.onnx").write_text("no model")
    for model, message in {
        broken: "is damaged or was changed: SHA256SUMS lists another digest",
        tmp_path / "text.onnx": "cannot be opened",
        tmp_path / "nothing": "does not exist; give a hand-off folder, its .onnx file, or an MLflow model URI",
        trained.handoff / "model_uint8.onnx": "takes tensor(uint8); use the float model",
        "models:/nobody@champion": "there is no tracking store",
    }.items():
        done = cli("denoise", "--model", model, tmp_path / "a.png", "--output", tmp_path / "out")
        assert done.code == (3 if model == broken else 2), done
        assert message in done.err
        assert done.err.count("\n") == 1
        assert not (tmp_path / "out").exists()
    done = cli("denoise", "--model", trained.handoff, tmp_path / "missing.png", "--output", tmp_path / "out")
    assert (done.code, done.err) == (2, f"Error: {tmp_path / 'missing.png'} does not exist\n")


def test_what_cannot_be_written_is_skipped_and_told(
    trained: Trained, photo: np.ndarray, tmp_path: Path, cli: Cli
) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("a.png", "b.png", "deep/c.png"):
        Image.fromarray(photo).save(tmp_path / "in" / name)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep").write_text("a file where a folder should be")
    done = run(cli, trained, tmp_path / "in", "--output", tmp_path / "out")
    assert done.code == 1
    said, end = done.err.splitlines()
    assert said.startswith(f"skipped {tmp_path / 'in' / 'deep' / 'c.png'}: cannot write {tmp_path / 'out' / 'deep'}")
    assert end == "Error: 1 of 3 files was skipped"
    assert (tmp_path / "out" / "deep").read_text() == "a file where a folder should be"
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} == {"a.png", "b.png", "deep"}


def test_how_large_a_file_may_be_can_be_said(trained: Trained, photo: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    done = run(cli, trained, tmp_path / "a.png", "--output", tmp_path / "out", "--max-pixels", photo.size - 1)
    assert done.code == 1
    assert "a.png: it has 5,063 pixels, and more than 5,062 are not read; denoise reads them with --max-p" in done.err
    assert run(cli, trained, tmp_path / "a.png", "--output", tmp_path / "out", "--max-pixels", photo.size).code == 0


def test_other_files_are_not_overwritten(trained: Trained, photo: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(photo).save(tmp_path / "in" / name)
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.png").write_text("mine")
    done = run(cli, trained, tmp_path / "in", "--output", out)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"Error: {out / 'b.png'} would be overwritten, but was not written by denoise, or was changed since; "
        "choose another --output, or pass --overwrite\n"
    )
    assert (out / "b.png").read_text() == "mine"
    assert not (out / "a.png").exists()
    assert run(cli, trained, tmp_path / "in", "--output", out, "--overwrite").code == 0
    result = (out / "b.png").read_bytes()
    assert result != b"mine"
    for options in ([], ["--strength", "0.5"], []):  # what it wrote itself, in this call or an earlier one
        assert run(cli, trained, tmp_path / "in", "--output", out, *options).code == 0
    assert (out / "b.png").read_bytes() == result
    with (out / "a.png").open("ab") as file:
        file.write(b"changed")
    done = run(cli, trained, tmp_path / "in", "--output", out)
    assert done.code == 2
    assert f"{out / 'a.png'} would be overwritten" in done.err
