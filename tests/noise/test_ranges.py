"""Numbers and intervals: their text form, what is refused, and how a number is drawn."""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.noise.ranges import DRAWS, Range


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("0.5", 0.5, 0.5), ("1e-3:0.1", 0.001, 0.1), ("0", 0, 0), ("0:7", 0, 7), (" 2 : 3 ", 2, 3)],
)
def test_a_number_or_two_are_read(text: str, low: float, high: float) -> None:
    found = Range.parse(text, "--x")
    assert (found.low, found.high, found.is_number) == (low, high, low == high)
    assert Range.parse(str(found), "--x") == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--x: '' is not a number from 0 to 9, nor LOW:HIGH of two such numbers"),
        ("a", "--x: 'a' is not a number from 0 to 9, nor LOW:HIGH of two such numbers"),
        ("1:2:3", "--x: '1:2:3' is not a number from 0 to 9, nor LOW:HIGH of two such numbers"),
        ("-1", "--x: '-1' is not a number from 0 to 9, nor LOW:HIGH of two such numbers"),
        ("1:9.5", "--x: '1:9.5' is not a number from 0 to 9, nor LOW:HIGH of two such numbers"),
        ("nan", "--x: 'nan' is not a number from 0 to 9, nor LOW:HIGH of two such numbers"),
        ("1:inf", "--x: '1:inf' is not a number from 0 to 9, nor LOW:HIGH of two such numbers"),
        ("3:2", "--x: '3:2': LOW must not be above HIGH"),
    ],
)
def test_what_is_no_range_is_refused(text: str, message: str) -> None:
    with pytest.raises(PipelineError) as error:
        Range.parse(text, "--x", 9)
    assert str(error.value) == message


def test_zero_is_refused_where_it_means_nothing() -> None:
    with pytest.raises(PipelineError, match=r"--x: '0' is not a number above 0, nor LOW:HIGH"):
        Range.parse("0", "--x", zero=False)


def test_the_text_form_has_no_more_digits_than_needed() -> None:
    assert str(Range(0.1, 0.1)) == "0.1"
    assert str(Range(0.0005, 0.1)) == "0.0005:0.1"
    assert str(Range(6.3e-9, 10_000)) == "6.3e-09:10000"


@pytest.mark.parametrize("draw", DRAWS)
def test_one_number_is_drawn_per_image_within_the_range_and_spread_as_said(draw: str) -> None:
    images = torch.zeros(20_000, 3, 1, 1)
    drawn = Range(0.01, 4.0).values(images, draw, torch.Generator().manual_seed(0))
    assert drawn.shape == (20_000, 1, 1, 1)
    assert drawn.min() >= 0.01 * (1 - 1e-6)
    assert drawn.max() <= 4.0 * (1 + 1e-6)
    middle = {"log": math.sqrt(0.01 * 4), "sqrt": ((0.1 + 2) / 2) ** 2, "uniform": (0.01 + 4) / 2}[draw]
    assert (drawn < middle).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_a_single_number_takes_nothing_from_the_generator() -> None:
    """So that noise of one variance is the same with and without the machinery of ranges."""
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert Range(0.3, 0.3).values(torch.zeros(2, 1, 4, 4), "log", generator).flatten().tolist() == pytest.approx(
        [0.3] * 2
    )
    assert torch.equal(generator.get_state(), before)
