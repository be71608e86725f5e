"""Figures of images that have no clean counterpart, or neither one nor three channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pipeline.reports.figures import denoising_grid, image_strip, to_pixels


def texts(figure: Figure) -> set[str]:
    title = figure.get_suptitle()
    return {title, *(text.get_text() for axes in figure.axes for text in axes.texts)}


def test_without_a_clean_image_none_is_shown_and_no_psnr_is_named() -> None:
    noisy = torch.rand(3, 1, 20, 20)
    said = texts(denoising_grid((None, noisy, noisy / 2), "Test images"))
    assert "noisy" in said
    assert "clean" not in said
    assert not any("PSNR" in text or "." in text for text in said)
    assert {"clean", "removed"} <= texts(denoising_grid((noisy / 3, noisy, noisy / 2), "Test images"))


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_of_other_channels_the_first_is_shown(channels: int) -> None:
    images = torch.rand(3, channels, 20, 24)
    pixels = to_pixels(images[0])
    assert pixels.shape == (20, 24)
    assert np.array_equal(pixels, np.rint(images[0, 0].numpy() * 255).astype(np.uint8))
    assert image_strip([images], zoom=1).shape == (22, 3 * 26)
    said = texts(denoising_grid((None, images, images), "Test images"))
    assert f"Test images, the first of {channels} channels" in said
