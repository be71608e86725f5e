"""Pixels to floats and back: one rounding wherever it is done, and nothing lost on the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.data.images import Levels, as_images, describe_sizes, to_floats, to_integers
from pipeline.handoff.variants import EightBits
from pipeline.reports.figures import to_pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_integer_comes_back(dtype: type) -> None:
    pixels: np.ndarray = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
    floats = to_floats(pixels)
    assert (floats.dtype, floats.min(), floats.max()) == (np.float32, 0, 1)
    back = to_integers(floats, dtype)
    assert back.dtype == dtype
    assert np.array_equal(back, pixels)


def test_floats_stay_what_they_are() -> None:
    images = np.array([-0.5, 0.25, 3.0], np.float32)
    assert to_floats(images) is images


def test_values_are_clipped_and_halves_go_to_the_even_number() -> None:
    halves = np.array([0.5, 1.5, 2.5, 254.5]) / 255
    assert to_integers(np.array([-3.0, 1.7, np.inf, -np.inf])).tolist() == [0, 255, 255, 0]
    assert to_integers(halves).tolist() == [0, 2, 2, 254]


def test_rounding_is_the_same_in_figures_and_in_the_8_bit_file() -> None:
    images = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    wanted = to_integers(images.numpy())
    assert np.array_equal(np.stack([to_pixels(image) for image in images]), wanted[:, 0])

    class Constant(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return images

    assert np.array_equal(EightBits(Constant())(torch.zeros(1, dtype=torch.uint8)).numpy(), wanted)


def test_torch_and_numpy_agree_on_the_scale() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert np.array_equal(Levels().to_tensor(torch.from_numpy(pixels)).numpy(), to_floats(pixels))


def test_images_of_one_size_become_an_array() -> None:
    small, large = np.zeros((1, 11, 12), np.uint8), np.zeros((1, 20, 13), np.uint8)
    assert isinstance(as_images([small, small]), np.ndarray)
    assert isinstance(as_images([small, large]), list)
    assert describe_sizes(as_images([small, small])) == "11x12"
    assert describe_sizes([large, small]) == "11x12 to 20x13"
