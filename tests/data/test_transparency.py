"""What is transparent is filled from what is visible."""

from __future__ import annotations

import numpy as np

from pipeline.data.transparency import filled


def test_hidden_pixels_are_what_is_visible_around_them() -> None:
    random = np.random.default_rng(0)
    kinds: list[tuple[type, int]] = [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)]
    for dtype, white in kinds:
        pixels: np.ndarray = (random.random((2, 3, 37, 50)) * white).astype(dtype)
        alpha: np.ndarray = np.where(random.random((2, 37, 50)) < 0.2, white, 0).astype(dtype)
        alpha[:, :20, :20] = 0
        found = filled(pixels, alpha)
        assert (found.shape, found.dtype) == (pixels.shape, dtype)
        visible = np.broadcast_to((alpha > 0)[:, np.newaxis], pixels.shape)
        np.testing.assert_array_equal(found[visible], pixels[visible])
        assert 0.4 * white < found[:, :, :20, :20].mean() < 0.6 * white
        # What was hidden is of no consequence.
        np.testing.assert_array_equal(filled(np.where(visible, pixels, 0).astype(dtype), alpha), found)


def test_one_color_stays_one() -> None:
    alpha = np.zeros((1, 33, 65), np.uint8)
    alpha[0, 30, 60] = 1
    pixels = np.full((1, 1, 33, 65), 7, np.uint8)
    hidden = np.where(alpha[:, np.newaxis] > 0, pixels, 200)
    np.testing.assert_array_equal(filled(hidden.astype(np.uint8), alpha), pixels)


def test_nothing_or_everything_hidden_stays() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4)
    for alpha in (None, np.zeros((1, 3, 4), np.uint8), np.ones((1, 3, 4), np.uint8)):
        assert filled(pixels, alpha) is pixels
