"""Estimates of noise are near the noise that was added: on digits and photographs, on many images and on one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data as pictures

from pipeline.noise.estimation import curve_of_captures, curve_of_images, curve_of_pairs, noise_sigma, whiteness


def noisy(clean: np.ndarray, shot: float, read: float, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal(clean.shape) * np.sqrt(shot * clean + read)
    return (clean + drawn).astype(np.float32)


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    """[1, H, W] each, three sizes."""
    gray = [pictures.camera(), pictures.coffee()[..., 1], pictures.chelsea()[..., 1]]
    return [image[None].astype(np.float32) / 255 for image in gray]


@pytest.fixture(scope="module")
def clean(digits: np.ndarray) -> np.ndarray:
    return digits[:2000, None].astype(np.float32) / 255


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.3])
def test_sigma_of_digits(sigma: float, clean: np.ndarray) -> None:
    images = noisy(clean, 0, sigma**2)
    assert noise_sigma(images) == pytest.approx(sigma, rel=0.03)
    assert noise_sigma(images) == noise_sigma(images)
    assert noise_sigma(images[..., 8:19, 8:19]) == pytest.approx(sigma, rel=0.05)
    assert np.mean([noise_sigma(image[None]) for image in images[:30]]) == pytest.approx(sigma, rel=0.06)
    assert noise_sigma(images.clip(0, 1)) == pytest.approx(0.57 * sigma, rel=0.05)  # as the docstring says


@pytest.mark.parametrize(("sigma", "clipped"), [(0.02, 1), (0.1, 1), (0.2, 0.92), (0.3, 0.86)])
def test_sigma_of_photographs(sigma: float, clipped: float, photos: list[np.ndarray]) -> None:
    images = [noisy(photo, 0, sigma**2) for photo in photos]
    assert noise_sigma(images) == pytest.approx(sigma, rel=0.03)
    for image in images:
        assert noise_sigma([image]) == pytest.approx(sigma, rel=0.06)
    stored = [np.rint(image.clip(0, 1) * 255).astype(np.float32) / 255 for image in images]
    assert noise_sigma(stored) == pytest.approx(clipped * sigma, rel=0.05)


def test_images_without_noise_and_tiny_ones(clean: np.ndarray, photos: list[np.ndarray]) -> None:
    assert noise_sigma(clean) < 0.005
    assert noise_sigma(photos) < 0.005
    assert noise_sigma(np.full((2, 1, 20, 20), 0.5, np.float32)) == 0
    assert noise_sigma(noisy(np.full((3, 1, 11, 11), 0.5, np.float32), 0, 0.01)) == pytest.approx(0.1, rel=0.15)
    assert noise_sigma(noisy(np.full((1, 3, 40, 40), 0.5, np.float32), 0, 0.01)) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(("shot", "read"), [(0.01, 0.0005), (0, 0.01), (0.002, 0.0001)])
def test_the_curve_of_captures(shot: float, read: float, photos: list[np.ndarray]) -> None:
    bursts = [np.stack([noisy(photo, shot, read, seed) for seed in range(3)]) for photo in photos]
    stored = [np.rint(burst.clip(0, 1) * 255).astype(np.float32) / 255 for burst in bursts]
    for scenes in (bursts, stored):
        scenes[0][1, :, :40, :40] = 0.7  # something moved
        scenes[1][1] += np.float32(0.01)  # the light changed
        curve = curve_of_captures(scenes)
        assert curve.a == pytest.approx(shot, rel=0.06, abs=3e-4)
        assert curve.b == pytest.approx(read, rel=0.06, abs=1e-4)
        assert len(curve.brightness) == len(curve.variance) > 8
        assert (np.diff(curve.brightness) > 0).all()
        np.testing.assert_allclose(curve.variance, curve.a * curve.brightness + curve.b, rtol=0.15)


@pytest.mark.parametrize(
    ("picture", "near"), [("coins", 0.05), ("text", 0.05), ("moon", 0.15)]
)  # less and less contrast
def test_the_curve_of_files_in_which_noise_is_clipped(picture: str, near: float) -> None:
    clean = getattr(pictures, picture)()[None, :300, :300] / 255
    shot, read = 0.01, 0.0005
    one, other = (np.rint(noisy(clean, shot, read, seed).clip(0, 1) * 255).astype(np.float32) / 255 for seed in (0, 1))
    for curve in (curve_of_pairs([(clean.astype(np.float32), one)]), curve_of_captures([np.stack([one, other])])):
        assert curve.a == pytest.approx(shot, rel=near)
        assert curve.b == pytest.approx(read, abs=near * 5e-3)


@pytest.mark.parametrize("shot", [0.01, 0.001])
def test_the_curve_of_digits_in_files(shot: float, clean: np.ndarray) -> None:
    one, other = (np.rint(noisy(clean[:300], shot, 4e-4, seed).clip(0, 1) * 255) / 255 for seed in (0, 1))
    captures = np.stack([one, other], axis=1).astype(np.float32)
    for curve in (curve_of_pairs(zip(clean, captures[:, 0], strict=False)), curve_of_captures(captures)):
        assert curve.a == pytest.approx(shot, rel=0.05)
        assert curve.b == pytest.approx(4e-4, rel=0.25)


@pytest.mark.parametrize(("shot", "read"), [(0.01, 0.0005), (0, 0.01), (0.002, 0.0001)])
def test_the_curve_of_single_images(shot: float, read: float, photos: list[np.ndarray]) -> None:
    curve = curve_of_images([noisy(photo, shot, read) for photo in photos])
    assert curve.a == pytest.approx(shot, rel=0.15, abs=1e-3)
    assert curve.b == pytest.approx(read, rel=0.25, abs=1e-4)


def test_no_captures_give_no_curve() -> None:
    curve = curve_of_captures([])
    assert (curve.a, curve.b, len(curve.variance)) == (0, 0, 0)


def test_whiteness(clean: np.ndarray, photos: list[np.ndarray]) -> None:
    removed = noisy(np.zeros_like(clean), 0, 0.01)
    assert whiteness(removed) < 0.01
    assert whiteness(removed * clean) < 0.02  # stronger in some places
    assert whiteness(gaussian_filter(removed, (0, 0, 0.7, 0.7))) == pytest.approx(0.56, abs=0.02)
    both = noisy(clean, 0, 0.01)
    assert whiteness(both - gaussian_filter(both, (0, 0, 0.7, 0.7))) > 0.08  # removed edges as well
    assert whiteness(photos) > 0.9
    assert whiteness(np.zeros((2, 1, 11, 11), np.float32)) == 0
