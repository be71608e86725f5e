"""Figures as SVG: in the colours of the page, as an element of it and as a file."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pipeline.noise import make_noise
from pipeline.noise.estimation import NoiseCurve
from pipeline.reports import figures
from pipeline.reports.comparison_figures import learning_curves
from pipeline.reports.svg import as_element, as_file
from pipeline.training.loop import Epoch, Point

LEVELS = np.array([0.1, 0.5])
PSNRS = {name: [30.0, 20.0] for name in ("denoised", "clipped", "noisy")}
# Those in the report of a run and in the page about a dataset.
DRAWN: dict[str, Callable[[], Figure]] = {
    "loss": lambda: figures.loss_curves([Point(50, 0.1, 0.1)], [Epoch(1, 50, 0.1, 0.1, 9.0, True)], 1, "mse", "clean"),
    "psnr": lambda: figures.psnr_curve(
        {"images": 9, "variances": [0.01, 0.1], "psnr": PSNRS}, trained_on=make_noise("gaussian", "0.01")
    ),
    "images": lambda: figures.denoising_grid((None, torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)), "Test images"),
    "values": lambda: figures.value_histogram([LEVELS]),
    "noise": lambda: figures.noise_by_brightness(NoiseCurve(1.0, 0.0, LEVELS, LEVELS), "a line"),
}


def test_an_element_takes_the_colours_of_the_page_and_no_code_from_a_name() -> None:
    svg = as_element(learning_curves({"<script>alert(1)</script> $x^2$": [(1, 2.0), (2, 3.0)]}, "PSNR"))
    assert "<script" not in svg
    assert "&lt;script&gt;alert(1)&lt;/script&gt; $x^2$" in svg
    assert not re.search("#000000|#ffffff|font-family|https?:|<metadata", svg)
    assert "currentColor" in svg
    assert 'viewBox="0 0 374.4 280.8"' in svg
    ids = re.findall(r' id="(.*?)"', svg)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url.)#([\w-]+)', svg)) <= set(ids)


@pytest.mark.parametrize("name", DRAWN)
def test_a_file_is_light_or_dark_like_the_page_around_it(name: str) -> None:
    svg = as_file(DRAWN[name]()).decode()
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert re.match('<svg[^>]* width="[0-9.]+pt"', svg)  # it is no larger than it was drawn
    assert svg.count("prefers-color-scheme: dark") == 1
    assert not re.search("#000000|#ffffff", svg)  # else they are unseen on a page of the same colour


def test_the_same_figure_is_the_same_file() -> None:
    """Else a command that was killed and repeated would leave another run than one that nothing disturbed."""
    assert as_file(DRAWN["psnr"]()) == as_file(DRAWN["psnr"]())
