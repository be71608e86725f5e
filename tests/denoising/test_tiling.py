"""Tiles: each no larger than asked for, and no seam where they meet."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.denoising.tiling import TILE, tile_side, tiled


def blur(images: np.ndarray) -> np.ndarray:
    """The mean of 5x5 pixels, zeros beyond the border: a model with a reach of 2 pixels."""
    padded = np.pad(images.astype(np.float64), ((0, 0), (0, 0), (2, 2), (2, 2)))
    return np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(2, 3)).mean(axis=(4, 5))


@pytest.mark.parametrize("size", [(16, 16), (17, 16), (16, 40), (61, 47), (3, 100), (100, 1)])
def test_the_result_is_the_result_of_the_whole_image(size: tuple[int, int]) -> None:
    images = np.random.default_rng(0).random((2, 3, *size))
    shapes: list[tuple[int, ...]] = []

    def model(part: np.ndarray) -> np.ndarray:
        shapes.append(part.shape[2:])
        return blur(part)

    found = tiled(model, images, halo=2, tile=16)
    assert found.shape == images.shape
    np.testing.assert_allclose(found, blur(images), atol=1e-12)
    assert max(map(max, shapes)) <= 16
    assert (len(shapes) > 1) == (max(size) > 16)


def test_too_small_a_halo_leaves_a_seam() -> None:
    images = np.random.default_rng(0).random((1, 1, 40, 40))
    assert np.abs(tiled(blur, images, halo=1, tile=16) - blur(images)).max() > 0.01


def test_the_type_is_the_type_of_the_output() -> None:
    images = np.ones((1, 1, 20, 20), np.float32)
    assert tiled(lambda part: (part * 255).astype(np.uint8), images, halo=0, tile=8).dtype == np.uint8


@pytest.mark.parametrize("halo", [0, 8, 40, 112])
def test_most_of_a_tile_is_result_however_far_the_model_reaches(halo: int) -> None:
    side = tile_side(halo)
    assert side >= TILE
    assert side % 8 == 0
    assert (side - 2 * halo) ** 2 > 0.6 * side**2
