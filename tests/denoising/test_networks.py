"""Which model a picture goes through: the released one that fits, or the given one, whatever the picture's channels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT, Cli, Result
from PIL import Image
from small_models import write_mean

from pipeline.data.image_files import Picture, read_picture
from pipeline.denoising.denoiser import load
from pipeline.denoising.model import open_model
from pipeline.denoising.released import RELEASED

Denoise = Callable[..., Result]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the pipeline and the two models for photographs, as a clone of the repository has them."""
    folder = tmp_path / "clone"
    for name, channels in (("photo-gray", 1), ("photo-color", 3)):
        write_mean(folder / "artifacts" / name, channels)
    (folder / "pipeline").symlink_to(PROJECT / "pipeline")
    return folder


@pytest.fixture
def denoise(clone: Path, cli: Cli, tmp_path: Path) -> Denoise:
    """`denoise` of files in the folder of the test, by the pipeline in `clone`."""

    def run(*arguments: object) -> Result:
        return cli("denoise", *arguments, "--output", tmp_path / "out", PYTHONPATH=str(clone))

    return run


@pytest.fixture
def colour() -> np.ndarray:
    """uint8 [24, 20, 3]."""
    return np.random.default_rng(0).integers(60, 200, (24, 20, 3), np.uint8)


def by(clone: Path, name: str, array: np.ndarray) -> np.ndarray:
    """What a model makes of [H, W, C] that goes through it as it is."""
    model = open_model(clone / "artifacts" / name / "model.onnx")
    pixels = np.ascontiguousarray(array.transpose(2, 0, 1))[np.newaxis]
    return model.denoise([pixels], array.dtype)[0][0].transpose(1, 2, 0)


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_without_a_model_each_picture_goes_to_the_released_one_that_fits(
    clone: Path, denoise: Denoise, colour: np.ndarray, tmp_path: Path
) -> None:
    gray = colour[..., 0]
    alike = np.repeat(gray[..., np.newaxis], 3, axis=2)
    inks = np.concatenate([colour, colour[..., :1]], axis=2)
    alpha = np.full_like(gray, 255)
    alpha[:4] = 0
    for name, array in {"colour": colour, "gray": gray, "alike": alike, "alpha": np.dstack([colour, alpha])}.items():
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    Image.fromarray(np.dstack([gray, alpha])).save(tmp_path / "gray-alpha.png")
    Image.fromarray(inks, mode="CMYK").save(tmp_path / "inks.tif")
    np.save(tmp_path / "two.npy", colour[..., :2])
    names = ("colour.png", "gray.png", "alike.png", "alpha.png", "gray-alpha.png", "inks.tif", "two.npy")
    done = denoise(*(tmp_path / name for name in names))
    assert (done.code, done.err) == (0, ""), done
    assert done.out == (
        "denoise: photo-color: 2 files; photo-gray: 3 files; photo-gray, each channel by itself: 2 files\n"
        f"denoise: 7 of 7 files, in {tmp_path / 'out'}\n"
    )
    in_gray = by(clone, "photo-gray", colour[..., :1])
    out = {name: pixels_of(tmp_path / "out" / name) for name in names[:-1]}
    np.testing.assert_array_equal(out["colour.png"], by(clone, "photo-color", colour))
    np.testing.assert_array_equal(out["gray.png"], in_gray[..., 0])
    np.testing.assert_array_equal(out["alike.png"], np.repeat(in_gray, 3, axis=2))
    np.testing.assert_array_equal(out["alpha.png"][..., 3], alpha)
    np.testing.assert_array_equal(out["alpha.png"][6:, :, :3], by(clone, "photo-color", colour)[6:])
    np.testing.assert_array_equal(out["gray-alpha.png"][6:, :, 0], in_gray[6:, :, 0])
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "two.npy")[..., :1], in_gray)
    for channel in range(4):  # the file keeps its four inks
        np.testing.assert_array_equal(
            out["inks.tif"][..., channel], by(clone, "photo-gray", inks[..., channel : channel + 1])[..., 0]
        )


def test_the_released_models_are_in_the_repository(colour: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    folders = {channels: PROJECT / "artifacts" / name for channels, name in RELEASED.items()}
    assert {open_model(folder / "model.onnx").channels: folder for folder in folders.values()} == folders
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(colour[..., 0]).save(tmp_path / "gray.png")
    done = cli("denoise", tmp_path / "colour.png", tmp_path / "gray.png", "--output", tmp_path / "out")
    assert (done.code, done.err) == (0, ""), done
    assert done.out.startswith("denoise: photo-color: 1 file; photo-gray: 1 file\n")


def test_a_released_model_is_known_by_its_name_from_any_folder(
    clone: Path, denoise: Denoise, colour: np.ndarray, tmp_path: Path
) -> None:
    Image.fromarray(colour).save(tmp_path / "colour.png")
    done = denoise(tmp_path / "colour.png", "--model", "photo-color")
    assert (done.code, done.err) == (0, ""), done
    wanted = by(clone, "photo-color", colour)
    np.testing.assert_array_equal(pixels_of(tmp_path / "out" / "colour.png"), wanted)
    done = denoise(tmp_path / "colour.png", "--model", "photo-colour")
    assert done.code == 2
    assert done.err.endswith(" or an MLflow model URI; did you mean 'photo-color'?\n")
    shutil.copytree(clone / "artifacts" / "photo-gray", tmp_path / "photo-color")  # the user's own comes first
    done = denoise(tmp_path / "colour.png", "--model", "photo-color", "--overwrite")
    assert done.out.startswith("denoise: photo-color, each channel by itself: 1 file\n")


def test_a_released_model_is_verified_scored_and_loaded_by_its_name(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour: np.ndarray
) -> None:
    (tmp_path / "set").mkdir()
    Image.fromarray(colour).save(tmp_path / "set" / "colour.png")
    done = cli("evaluate", "--model", "photo-color", "--dataset", "set", "--variance", 0.01)
    assert (done.code, done.err) == (0, ""), done
    done = cli("verify", "photo-gray")
    assert (done.code, done.err) == (0, ""), done
    assert f"verify: {PROJECT / 'artifacts' / 'photo-gray'}: " in done.out
    done = cli("verify", "photo-grey")
    assert done.code == 2
    assert done.err.endswith("'photo-grey' does not exist; did you mean 'photo-gray'?\n")
    monkeypatch.chdir(tmp_path)
    assert load("photo-gray").denoise(colour[..., 0]).shape == colour.shape[:2]


def test_a_picture_of_other_channels_than_the_given_model(
    clone: Path, denoise: Denoise, colour: np.ndarray, tmp_path: Path
) -> None:
    gray = colour[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    Image.fromarray(colour).save(tmp_path / "colour.png")
    np.save(tmp_path / "two.npy", colour[..., :2])
    model = clone / "artifacts" / "photo-color"
    done = denoise(*(tmp_path / name for name in ("gray.png", "colour.png", "two.npy")), "--model", model)
    assert (done.code, done.err) == (0, ""), done
    assert done.out.startswith(
        "denoise: photo-color, gray as equal red, green and blue: 1 file; photo-color: 1 file; "
        "photo-color, each channel by itself: 1 file\n"
    )
    alike = open_model(model / "model.onnx").run(np.repeat(gray[np.newaxis, np.newaxis] / np.float32(255), 3, axis=1))
    assert not np.allclose(alike[0, 0], alike[0, 2], atol=1e-3)  # so that the mean is not the same as any channel
    wanted = np.rint(alike[0].mean(axis=0) * 255).astype(np.uint8)
    np.testing.assert_array_equal(pixels_of(tmp_path / "out" / "gray.png"), wanted)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "two.npy")[..., 0], wanted)

    done = denoise(tmp_path / "colour.png", tmp_path / "gray.png", "--model", clone / "artifacts" / "photo-gray")
    assert done.out.startswith("denoise: photo-gray, each channel by itself: 1 file; photo-gray: 1 file\n")
    done = denoise(tmp_path / "colour.png", "--model", model)
    assert done.out == f"denoise: 1 of 1 file, in {tmp_path / 'out'}\n"  # as usual: nothing to say


def test_without_the_repository_it_says_what_to_give(clone: Path, denoise: Denoise, tmp_path: Path) -> None:
    Image.new("L", (20, 20)).save(tmp_path / "gray.png")
    shutil.rmtree(clone / "artifacts" / "photo-color")
    done = denoise(tmp_path / "gray.png")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"Error: the models for photographs, photo-color, are not in {clone / 'artifacts'}; take them from a clone of "
        "the repository, or give any hand-off folder by --model\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("channels", [1, 3])
def test_tiny_pictures_and_panoramas(clone: Path, channels: int) -> None:
    """Through a real network, too: mnist-blind."""
    path = clone / "artifacts" / ("photo-gray" if channels == 1 else "photo-color") / "model.onnx"
    for model in (open_model(path), open_model(PROJECT / "artifacts" / "mnist-blind" / "model.onnx", best=True)):
        for height, width in [(1, 1), (1, 2), (2, 1), (3, 3), (7, 16), (16, 5), (1, 700)]:
            pixels = np.random.default_rng(0).integers(0, 256, (1, channels, height, width), np.uint8)
            model.check(Picture(pixels, None, "NPY", np.ndarray.tobytes))
            (found,) = model.denoise([pixels], pixels.dtype)
            assert (found.shape, found.dtype) == (pixels.shape, pixels.dtype)
            floats = pixels / np.float32(255)
            if channels == model.channels:
                np.testing.assert_allclose(found, model.denoise([floats], floats.dtype)[0].clip(0, 1) * 255, atol=0.51)


def test_a_tiny_picture_does_not_get_darker(clone: Path) -> None:
    """Beyond its edges there is no black."""
    model = open_model(clone / "artifacts" / "photo-gray" / "model.onnx")
    for size in [(1, 1), (2, 16), (16, 3), (3, 900)]:
        pixels = np.full((1, 1, *size), 200, np.uint8)
        (found,) = model.denoise([pixels], pixels.dtype)
        np.testing.assert_array_equal(found[..., 2:-2], pixels[..., 2:-2])
        assert size[1] > 16 or (found == 200).all()


def test_a_panorama_file(clone: Path, denoise: Denoise, tmp_path: Path) -> None:
    wide = np.random.default_rng(0).integers(0, 256, (30, 12_000, 3), np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png", compress_level=1)
    assert denoise(tmp_path / "wide.png").code == 0
    model = open_model(clone / "artifacts" / "photo-color" / "model.onnx")
    whole = model.run(read_picture(tmp_path / "wide.png").pixels / np.float32(255))
    found = pixels_of(tmp_path / "out" / "wide.png").transpose(2, 0, 1).astype(int)
    assert np.abs(found - np.rint(whole[0].clip(0, 1) * 255)).max() <= 1
