"""--strength and --quality: the formulas, and that 0 gives the input back, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from PIL import Image
from small_models import write_mean

from pipeline.denoising.model import Model, open_model
from pipeline.denoising.strength import with_strength
from pipeline.denoising.turns import in_all_turns


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hand-off folder of a model in colour."""
    return write_mean(tmp_path / "model", 3)


def opened(folder: Path, strength: float = 1, best: bool = False) -> Model:
    return open_model(folder / "model.onnx", threads=1, strength=strength, best=best)


@pytest.fixture
def noisy() -> np.ndarray:
    """uint8 [1, 3, 40, 50]."""
    return np.random.default_rng(0).integers(0, 256, (1, 3, 40, 50), np.uint8)


def test_the_strength_goes_from_the_input_over_the_output_to_a_second_pass(folder: Path, noisy: np.ndarray) -> None:
    floats = noisy / np.float32(255)
    run = opened(folder).run
    once = run(floats)
    twice = run(once)
    for strength, wanted in {
        0: floats,
        0.25: floats + (once - floats) / 4,
        1: once,
        1.25: (once + twice) / 2,
        1.5: twice,
    }.items():
        (found,) = opened(folder, strength).denoise([noisy], noisy.dtype)
        assert np.abs(found - np.rint(wanted * 255)).max() <= (strength > 0), strength  # half a level, rounded
        (found,) = opened(folder, strength).denoise([floats], floats.dtype)
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_all_turns_and_flips_are_averaged_before_rounding(folder: Path, noisy: np.ndarray) -> None:
    """By hand; a model that is the same for all of them gives what it gives without."""
    floats = noisy / np.float32(255)
    results = []
    for transposed in (False, True):
        for down in (1, -1):
            for right in (1, -1):
                image = (floats.swapaxes(2, 3) if transposed else floats)[..., ::down, ::right]
                result = opened(folder).run(np.ascontiguousarray(image))[..., ::down, ::right]
                results.append(result.swapaxes(2, 3) if transposed else result)
    mean = np.mean(results, axis=0)
    assert np.abs(mean - results[0]).max() > 0.05
    np.testing.assert_allclose(in_all_turns(opened(folder).run, floats), mean, atol=1e-6)
    (found,) = opened(folder, best=True).denoise([noisy], noisy.dtype)
    assert np.abs(found - np.rint(mean * 255)).max() <= 1
    (half,) = opened(folder, strength=0.5, best=True).denoise([floats], floats.dtype)
    np.testing.assert_allclose(half, (floats + mean) / 2, atol=1e-6)
    np.testing.assert_allclose(in_all_turns(lambda images: 1 - images, floats), 1 - floats, atol=1e-6)


@pytest.mark.parametrize(("strength", "best"), [(0.5, False), (1.5, False), (1, True), (1.5, True)])
def test_large_images_have_no_seam(folder: Path, strength: float, best: bool) -> None:
    floats = np.random.default_rng(0).random((1, 3, 530, 1001), np.float32)
    (found,) = opened(folder, strength, best).denoise([floats], floats.dtype)
    run = opened(folder).run
    whole = with_strength(lambda images: in_all_turns(run, images) if best else run(images), floats, strength)
    np.testing.assert_allclose(found, whole, atol=1e-6)


def test_files_come_back_as_they_were_at_strength_0(folder: Path, noisy: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    array = np.ascontiguousarray(noisy[0].transpose(1, 2, 0))
    (tmp_path / "in").mkdir()
    Image.fromarray(array).save(tmp_path / "in" / "a.jpg", quality=60)
    Image.fromarray(array).convert("P").save(tmp_path / "in" / "palette.png")
    Image.fromarray(array[..., 0].astype(np.uint16) * 256).save(tmp_path / "in" / "deep.tif")
    np.save(tmp_path / "in" / "doubles.npy", array / 255)
    command: list[object] = ["denoise", tmp_path / "in", "--model", folder, "--strength", "0"]
    done = cli(*command, "--output", tmp_path / "out")
    assert (done.code, done.err) == (0, ""), done
    for path in (tmp_path / "in").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path
    done = cli(*command, "--output", tmp_path / "noisy", "--variance", "0.01")  # the noise is not taken away
    noise = done.out.split("noisy ")[1]
    assert noise.split(", ")[0] == noise.split("denoised ")[1].strip(), done


def test_the_options_reach_the_model(folder: Path, noisy: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    Image.fromarray(noisy[0].transpose(1, 2, 0)).save(tmp_path / "a.png")
    for name, options in {"half": ("--strength", "0.5"), "best": ("--quality", "best")}.items():
        done = cli("denoise", tmp_path / "a.png", "--model", folder, "--output", tmp_path / name, *options)
        assert (done.code, done.err) == (0, ""), done
        (wanted,) = opened(folder, 0.5 if name == "half" else 1, name == "best").denoise([noisy], noisy.dtype)
        with Image.open(tmp_path / name / "a.png") as image:
            np.testing.assert_array_equal(np.asarray(image).transpose(2, 0, 1), wanted[0])
    done = cli("denoise", tmp_path / "a.png", "--model", folder, "--output", tmp_path / "x", "--strength", "1.6")
    assert (done.code, done.err.splitlines()[-1]) == (
        2,
        "Error: Invalid value for '--strength': '1.6' is not a number from 0 to 1.5",
    )
