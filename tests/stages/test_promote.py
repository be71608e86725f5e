"""Which of two models is better on the same images, and by how much."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.stages.promote import Comparison


def test_the_difference_is_taken_image_by_image() -> None:
    challenger, champion = np.array([30.0, 20.0, 40.0, 26.0]), np.array([29.0, 19.5, 39.0, 25.5])
    found = Comparison.of(challenger, champion)
    assert (found.challenger, found.champion) == (29.0, 28.25)
    assert found.difference == pytest.approx(0.75)
    # The images differ by 20 dB, but the models on one image by 0.5 or 1 dB only.
    assert found.error == pytest.approx(np.std([1, 0.5, 1, 0.5], ddof=1) / 2)
    assert Comparison.of(champion, challenger).difference == pytest.approx(-0.75)


def test_a_single_image_has_no_standard_error() -> None:
    assert math.isnan(Comparison.of(np.array([30.0]), np.array([29.0])).error)
