"""Figures of images that have no clean counterpart, or neither one nor three channels."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pipeline.noise import make_noise
from pipeline.reports.figures import (
    denoising_grid,
    image_strip,
    loss_curves,
    psnr_curve,
    search_history,
    to_pixels,
)
from pipeline.training.loop import Epoch, Point

_NAMES = "denoised", "clipped", "noisy"


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


def test_of_colours_the_mean_of_what_was_removed_is_shown() -> None:
    noisy = torch.rand(2, 3, 20, 20)
    images = denoising_grid((None, noisy, noisy / 2), "").axes[0].images
    assert [np.ndim(image.get_array()) for image in images] == 2 * [3] + 2 * [3] + 2 * [2]  # type: ignore[arg-type]


@pytest.mark.parametrize(("losses", "scale"), [([0.02, 0.01], "log"), ([-21.5, -23.0], "linear")])
def test_a_search_by_psnr_has_losses_below_zero(losses: list[float], scale: str) -> None:
    axes = search_history(losses).axes[0]
    assert axes.get_yscale() == scale
    assert axes.get_ylim()[0] < min(losses) < max(losses) < axes.get_ylim()[1]


def test_the_label_of_a_loss_is_inside_however_wide_its_numbers_are() -> None:
    points = [Point(images, value, 0.1) for images, value in ((50, -1234567.8), (100, -1234567.5))]
    figure = loss_curves(points, [Epoch(1, 100, -1234567.8, -1234567.6, 10.0, True)], 1, "psnr", "clean")
    figure.savefig(BytesIO())
    label = figure.axes[0].yaxis.label.get_window_extent()
    assert label.x0 >= 0
    assert label.y0 >= 0


def test_the_numbers_of_a_psnr_curve_are_above_its_lines() -> None:
    levels = [0.0, 0.0001, 0.01, 0.3]
    psnrs = {name: [45.0 - shift, 40.0 - shift, 30.0 - shift, 15.0 - shift] for shift, name in enumerate(_NAMES)}
    curve = {"images": 10, "variances": levels, "psnr": psnrs}
    axes = psnr_curve(curve, trained_on=make_noise("gaussian", "0.01")).axes[0]
    assert [text.get_text() for text in axes.texts] == ["45.0", "40.0", "30.0", "15.0"]
    assert all(text.get_position()[1] > 1 for text in axes.texts)  # of the height of the axes
    assert axes.get_xscale() == "symlog"
