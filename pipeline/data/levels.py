"""The pixel values that become 1 and 0: what they are where nobody says, and whether they fit the images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from pipeline.config import AUTO
from pipeline.data.images import Levels, some_floats
from pipeline.errors import ArgumentError, PipelineError
from pipeline.noise.estimation import noise_sigma
from pipeline.text import printable

_BITS = (8, 10, 12, 14, 16)  # of cameras whose pixels are stored in 16
_OUTSIDE = 0.01  # share of float pixels that may lie outside of [0, 1] by more than noise explains
_SIGMAS = 4.0  # of the noise that explain it; 3 are too few for one digit, whose noise may look a fifth too weak
_MARGIN = 0.25  # of white that noise explains at least: where it grows with brightness, an estimate is too low
_SMALLEST_SIDE = 3  # pixels: of an image whose noise can be estimated
_IMAGES = 100  # that noise is estimated from
_LITTLE = 1 / 3  # of the range from black to white, below which all images together look dark
_MOST_SIGMA = 1.0  # of the noise that is taken to explain it: images in [0, 255] can have noise of 10


def white_of_bits(highest: float) -> int:
    """The smallest 2^bits - 1, with 8, 10, 12, 14 or 16 bits, that a highest value of up to 65,535 does not exceed."""
    return next(2**bits - 1 for bits in _BITS if highest <= 2**bits - 1)


def share_outside(images: Sequence[np.ndarray], levels: Levels) -> float:
    """The share of floats that lie further outside of black to white than noise explains; 0 if it is at most 1 %.

    Noise explains a quarter of white, or four times its standard deviation, which is estimated, and taken to be at most
    white less black.

    Args:
        images: float32 [C, H, W] each, at least one.
        levels: black and white.
    """

    def share(margin: float) -> float:
        low, high = levels.black - margin, levels.white + margin
        outside = sum(int(np.count_nonzero((image < low) | (image > high))) for image in images)
        found = outside / sum(image.size for image in images)
        return found if found > _OUTSIDE else 0.0

    span = levels.white - levels.black
    if not share(_MARGIN * span) or min(images[0].shape[-2:]) < _SMALLEST_SIDE:
        return 0.0
    some = some_floats(images, levels, _IMAGES)
    return share(max(_MARGIN, _SIGMAS * min(noise_sigma(some), _MOST_SIGMA)) * span)


def find_levels(
    images: Sequence[np.ndarray],
    ranges: Iterable[tuple[float, float, str]],
    white: float | str = AUTO,
    black: float = 0,
) -> Levels:
    """The levels of images.

    Args:
        images: uint8, uint16 or float32 [C, H, W], all of one type.
        ranges: the lowest and the highest pixel of each file, and its name for messages.
        white: the value that becomes 1. AUTO: 255 for 8 bits; for 16, as `white_of_bits`; 1 for floats.
        black: the value that becomes 0.

    Raises:
        PipelineError: integers exceed white, floats do not lie from black to white, or white is not above black.
    """
    ranges, dtype = list(ranges), images[0].dtype
    _, highest, name = max(ranges, key=lambda found: found[1])
    if white == AUTO:
        white = white_of_bits(highest) if dtype == np.uint16 else Levels.of_type(dtype).white
    levels = Levels(float(white), float(black))
    if levels.white <= levels.black:
        raise ArgumentError(f"--black {black:g} is not below white, which is {levels.white:g}")
    if dtype != np.float32 and highest > levels.white:
        raise ArgumentError(f"--white {levels.white:g}: {printable(name)} has brighter pixels, up to {highest:g}")
    if dtype == np.float32 and share_outside(images, levels):
        middle = (levels.white + levels.black) / 2
        low, high, name = max(ranges, key=lambda found: max(middle - found[0], found[1] - middle))
        raise PipelineError(
            f"floats must lie around black, {levels.black:g}, to white, {levels.white:g}, but {printable(name)} has "
            f"{low:g} to {high:g}; give the values of a white and a black pixel by --white and --black"
        )
    return levels


def suggested_levels(lowest: float, highest: float) -> Levels:
    """What black and white of floats may be that do not lie around [0, 1], by their lowest and highest value.

    Signed ones around [-1, 1] have those; others are integers of a camera, perhaps with noise around black and white.
    """
    if lowest < -_MARGIN and max(-lowest, highest) <= 1 + _MARGIN:
        return Levels(1, -1)
    white = highest / (1 + _MARGIN)
    if 1 < white <= 2 ** _BITS[-1] - 1 and lowest >= -_MARGIN * white_of_bits(white):
        return Levels(white_of_bits(white))
    return Levels(math.ceil(highest), math.floor(lowest))


def describe_dark(levels: Levels, highest: float) -> str:
    """A warning where the brightest pixel of all images is far from white; "" elsewhere."""
    used = (highest - levels.black) / (levels.white - levels.black)
    if used >= _LITTLE:
        return ""
    return (
        f"warning: the images are dark: no pixel is brighter than {highest:g}, which is {used:.0%} of the way from "
        f"black to white; if white is less than {levels.white:g}, say what: --white NUMBER"
    )


def describe_levels(levels: Levels, dtype: np.dtype) -> str:
    """Such as `12 bits in 16: white 4095, black 0`."""
    if dtype == np.float32:
        kind = "floats"
    else:
        stored = dtype.itemsize * 8
        bits = next((bits for bits in _BITS if levels.white == 2**bits - 1), stored)
        kind = f"{bits} bits in {stored}" if bits < stored else f"{stored} bits"
    return f"{kind}: white {levels.white:g}, black {levels.black:g}"
