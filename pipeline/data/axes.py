"""Which axis of a NumPy array is which, where a program hands one over: strict, because a guess is seen too late."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from pipeline.data.formats.picture import check_finite, checked
from pipeline.errors import PipelineError

AXES = "[H, W], [H, W, C], [N, C, H, W] and [N, H, W, C]"


def to_batch(
    array: object, channels: Collection[int] = (1, 3), what: str = "the array"
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """The images in an array, and the way back: from images of that shape and type to an array like the one given.

    Two axes are [H, W]; three are [H, W, C]; four are [N, C, H, W] if the second one can be C, else [N, H, W, C].

    Args:
        array: of uint8, uint16 or floats, in any order of bytes and of memory.
        channels: what C may be.
        what: it is called in messages.

    Returns:
        uint8, uint16 or float32 [N, C, H, W]; and the function.

    Raises:
        PipelineError: it is no such array.
    """
    if not isinstance(array, np.ndarray):
        raise PipelineError(f"{what} is a {type(array).__name__}, not a NumPy array; convert it with numpy.asarray")
    if isinstance(array, np.ma.MaskedArray):
        raise PipelineError(f"{what} is masked, and what the mask means for an image is not known; fill it first")
    pixels = checked(np.asarray(array), what)
    order = _order(array.shape, channels, what)
    if order == "HW":
        images = pixels[np.newaxis, np.newaxis]
    elif order == "NCHW":
        images = pixels
    else:
        images = np.moveaxis(pixels.reshape(-1, *array.shape[-3:]), -1, 1)
    images = np.ascontiguousarray(images)
    check_finite(images, what)

    def back(images: np.ndarray) -> np.ndarray:
        if order in ("HWC", "NHWC"):
            images = np.moveaxis(images, 1, -1)
        return np.ascontiguousarray(images.reshape(array.shape)).astype(array.dtype, copy=False)

    return images, back


def _order(shape: tuple[int, ...], channels: Collection[int], what: str) -> str:
    """The names of the axes."""
    if len(shape) == 2:
        return "HW"
    if len(shape) == 4 and shape[1] in channels:
        return "NCHW"
    if len(shape) in (3, 4) and shape[-1] in channels:
        return "HWC" if len(shape) == 3 else "NHWC"
    hint = ""
    if len(shape) >= 3 and shape[-1] == 4:
        hint = "; leave alpha out: array[..., :3]"
    elif len(shape) == 3 and shape[0] in channels:
        hint = "; a single [C, H, W] is array[None]"
    elif len(shape) == 3:
        hint = "; gray images [N, H, W] are array[:, None]"
    allowed = " or ".join(map(str, sorted(channels)))
    raise PipelineError(f"{what} has the shape {list(shape)}; allowed are {AXES}, where C is {allowed}{hint}")
