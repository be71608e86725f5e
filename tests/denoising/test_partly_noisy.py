"""Pictures that have noise in some places only, or the same in all channels, by `denoise` without a model."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from conftest import PROJECT, run_cli
from PIL import Image
from test_released import letters, psnr

import pipeline

SIDE, SIGMA = 256, 25  # pixels; of 255


def with_noise(clean: np.ndarray, sigma: float = SIGMA) -> np.ndarray:
    """White noise, stored in 8 bits, as an image without alpha."""
    noise = sigma * np.random.default_rng(0).standard_normal(clean.shape)
    return np.rint((clean + noise).clip(0, 255)).astype(np.uint8)


@pytest.fixture(scope="module")
def camera() -> np.ndarray:
    return skimage.data.camera()[60 : 60 + SIDE, 100 : 100 + SIDE]


@pytest.fixture(scope="module")
def gain(camera: np.ndarray) -> float:
    """In dB, where there is noise everywhere."""
    noisy = with_noise(camera)
    return psnr(pipeline.load().denoise(noisy), camera) - psnr(noisy, camera)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_noise_beside_a_flat_area_is_removed(value: int, camera: np.ndarray) -> None:
    """A round field of view with a straight edge: nearly as well as if there were noise everywhere."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    flat = (rows**2 + columns**2 > 120**2) | (columns < -90)
    noisy = with_noise(camera)
    everywhere, denoised = map(pipeline.load().denoise, (noisy, np.where(flat, value, noisy).astype(np.uint8)))
    assert (denoised[flat] == value).mean() > 0.9  # not in the narrow places along the circle
    assert psnr(denoised[~flat], camera[~flat]) > psnr(everywhere[~flat], camera[~flat]) - 2


def test_noise_beside_what_is_transparent_is_removed(camera: np.ndarray, gain: float, tmp_path: Path) -> None:
    alpha = np.full((SIDE, SIDE), 255, np.uint8)
    alpha[80:180, 60:] = 0
    noisy = np.stack([np.where(alpha, with_noise(camera), 255).astype(np.uint8), alpha], axis=-1)
    Image.fromarray(noisy).save(tmp_path / "hole.png")
    done = run_cli("denoise", "hole.png", "--output", "out", cwd=tmp_path)
    assert done.code == 0, done
    denoised = np.asarray(Image.open(tmp_path / "out" / "hole.png"))
    seen = alpha > 0
    assert psnr(denoised[seen, 0], camera[seen]) - psnr(noisy[seen, 0], camera[seen]) > gain - 1
    np.testing.assert_array_equal(denoised[~seen], noisy[~seen])


def test_a_clean_page_of_text_is_given_back() -> None:
    page = np.full((SIDE, SIDE), 255, np.uint8)
    page[:192, :192] = letters()
    assert psnr(pipeline.load().denoise(page), page) > 35


@pytest.mark.parametrize("kind", ["a coloured mark", "toned", "coarse colours"])
def test_noise_that_all_channels_share_is_removed(kind: str, camera: np.ndarray, gain: float, tmp_path: Path) -> None:
    """By the model of gray pictures; that for colour leaves all but 1 or 2 dB."""
    clean = np.repeat(camera[..., np.newaxis], 3, axis=-1)
    noisy = np.repeat(with_noise(camera)[..., np.newaxis], 3, axis=-1)
    if kind == "a coloured mark":
        clean[200:210, 20:80] = noisy[200:210, 20:80] = 255, 220, 0
    elif kind == "toned":
        clean, noisy = (np.rint(pixels * [1, 0.9, 0.7]).astype(np.uint8) for pixels in (clean, noisy))
    else:
        clean = skimage.data.astronaut()[:SIDE, 100 : 100 + SIDE]
        stored = io.BytesIO()
        Image.fromarray(with_noise(clean)).save(stored, "JPEG", quality=95, subsampling="4:2:0")
        noisy = np.asarray(Image.open(stored))
    Image.fromarray(noisy).save(tmp_path / "noisy.png")
    done = run_cli("denoise", "noisy.png", "--output", "out", cwd=tmp_path)
    assert done.out.startswith("denoise: photo-gray, each channel by itself: 1 file\n"), done
    found = psnr(np.asarray(Image.open(tmp_path / "out" / "noisy.png")), clean) - psnr(noisy, clean)
    assert found > (gain - 0.5 if kind != "coarse colours" else 5)


def test_noise_of_each_channel_goes_to_the_model_for_colour(tmp_path: Path) -> None:
    """Also where it is weak, or the picture is clean."""
    clean = skimage.data.astronaut()[:SIDE, 100 : 100 + SIDE]
    for sigma in (0, 1, 5, 25):
        Image.fromarray(with_noise(clean, sigma)).save(tmp_path / f"{sigma}.png")
    done = run_cli("denoise", tmp_path, "--output", tmp_path / "out", cwd=tmp_path)
    assert done.out.startswith("denoise: photo-color: 4 files\n"), done


def test_digits_are_flat_by_nature() -> None:
    """The model of digits has learned that: filled with noise, clean ones would lose 12 dB."""
    digits = pipeline.load(PROJECT / "artifacts" / "mnist-blind")
    clean = np.zeros((1, 1, 28, 28), np.uint8)
    clean[..., 4:24, 12:16] = 255
    assert psnr(digits.denoise(clean), clean) > 40
