"""What is transparent or flat is filled from the rest of the picture, with its noise."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.filling import filled, flat_areas, noise_deviation


def test_hidden_pixels_are_what_is_visible_around_them() -> None:
    random = np.random.default_rng(0)
    kinds: list[tuple[type, int]] = [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)]
    for dtype, white in kinds:
        pixels: np.ndarray = (random.random((2, 3, 37, 50)) * white).astype(dtype)
        alpha: np.ndarray = np.where(random.random((2, 37, 50)) < 0.2, white, 0).astype(dtype)
        alpha[:, :20, :20] = 0
        found = filled(pixels, alpha == 0)
        assert (found.shape, found.dtype) == (pixels.shape, dtype)
        visible = np.broadcast_to((alpha > 0)[:, np.newaxis], pixels.shape)
        np.testing.assert_array_equal(found[visible], pixels[visible])
        assert 0.4 * white < found[:, :, :20, :20].mean() < 0.6 * white
        # What was hidden is of no consequence.
        np.testing.assert_array_equal(filled(np.where(visible, pixels, 0).astype(dtype), alpha == 0), found)


def test_one_color_stays_one() -> None:
    alpha = np.zeros((1, 33, 65), np.uint8)
    alpha[0, 30, 60] = 1
    pixels = np.full((1, 1, 33, 65), 7, np.uint8)
    hidden = np.where(alpha[:, np.newaxis] > 0, pixels, 200)
    np.testing.assert_array_equal(filled(hidden.astype(np.uint8), alpha == 0), pixels)


def test_nothing_or_everything_hidden_stays() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4)
    for hidden in (None, np.zeros((1, 3, 4), bool), np.ones((1, 3, 4), bool)):
        assert filled(pixels, hidden) is pixels


def test_flat_is_what_lies_in_a_square_of_nine_equal_pixels() -> None:
    """Against the definition, taken literally."""
    random = np.random.default_rng(0)
    for shape in ((1, 1, 40, 60), (2, 3, 9, 9), (1, 3, 8, 40), (3, 1, 28, 28), (1, 1, 1100, 20)):
        pixels = random.integers(0, 2, shape).astype(np.uint8)
        for _ in range(8):
            top, left, height, width = (int(random.integers(stop)) for stop in (*shape[2:], 16, 16))
            pixels[random.integers(shape[0]), :, top : top + height, left : left + width] = 7
        pixels[:, :, 505:530, :15] = 9  # over the end of the rows that are worked on together
        wanted = np.zeros((shape[0], *shape[2:]), bool)
        for number, top, left in np.ndindex(shape[0], max(shape[2] - 8, 0), max(shape[3] - 8, 0)):
            square = pixels[number, :, top : top + 9, left : left + 9]
            wanted[number, top : top + 9, left : left + 9] |= bool((square == square[:, :1, :1]).all())
        np.testing.assert_array_equal(flat_areas(pixels), wanted)


def test_the_noise_is_measured_where_there_is_little_else() -> None:
    random = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(120.0), np.arange(160.0)) / 2
    for deviation in (0, 3, 25):
        noisy = (ramp + deviation * random.standard_normal((2, 120, 160))).astype(np.float32)
        visible = np.ones((120, 160), bool)
        visible[:, 100:] = False
        noisy[:, :, 100:] *= 9  # does not count
        assert noise_deviation(noisy, visible) == pytest.approx([deviation] * 2, rel=0.25, abs=1e-3)
    assert noise_deviation(noisy, ~visible & visible).tolist() == [0, 0]
    assert noise_deviation(noisy[:, :7, :7], visible[:7, :7]).tolist() == [0, 0]


def test_what_is_filled_has_the_noise_of_the_rest() -> None:
    random = np.random.default_rng(0)
    hidden = np.zeros((1, 64, 96), bool)
    hidden[:, :30, :50] = True
    noise = random.standard_normal((1, 3, 64, 96))
    for noisy, is_gray in ((noise, False), (np.repeat(noise[:, :1], 3, axis=1), True)):
        found = filled((128 + 20 * noisy).astype(np.uint8), hidden, with_noise=True)
        assert 15 < found[0, :, :30, :50].std() < 25
        assert bool((found == found[:, :1]).all()) is is_gray
    assert filled((128 + 20 * noise).astype(np.uint8), hidden)[0, :, :24, :40].std() < 5  # for the eye
