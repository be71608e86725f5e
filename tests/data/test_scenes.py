"""What is said of a folder's images besides their layout."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.images import Part
from pipeline.data.sources.scenes import describe_noise


def test_noisy_images_that_are_taken_for_clean_are_pointed_out(digits: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(0, 25, digits[:60].shape)
    noisy = (100 + digits[:60] / 4 + noise).clip(0, 255).astype(np.uint8)[:, np.newaxis]
    said = describe_noise(Part(noisy))
    assert said.startswith("these images look noisy")
    assert float(said.split("standard deviation of ")[1].split()[0]) == pytest.approx(25 / 255, rel=0.1)
    assert describe_noise(Part(digits[:60][:, np.newaxis])) == ""
    assert describe_noise(Part(None, noisy, np.arange(60))) == ""
