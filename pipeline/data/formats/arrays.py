"""Files of NumPy: .npy with one array, .npz with several.

Which axis is which is decided by the sizes, because these files do not say it:

- 2 axes: [H, W], one gray image.
- 3 axes: [H, W, C] if the last axis is shorter than 11, which no side of an image is (the window of SSIM); else
  [C, H, W] if the first axis is 1 or 3; else [N, H, W], gray images. So three gray images of 28x28 that are stored as
  [3, 28, 28] are taken for one in colour: store them as [3, 1, 28, 28].
- 4 axes: [N, C, H, W] or [N, H, W, C]; the shorter one of the second and the last axis is C, and the second one if
  both are equal.

Four channels that come last are red, green, blue and alpha.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from functools import partial
from typing import IO, BinaryIO

import numpy as np

from pipeline.config import MAX_CHANNELS
from pipeline.data.formats.picture import Picture, check_finite, check_size, checked, joined
from pipeline.data.images import SMALLEST_SIDE
from pipeline.errors import PipelineError, counted

# For each order of the axes: the shape with all four of them, and the axes in the order N, C, H, W.
_ORDERS = {
    "HW": (lambda shape: (1, 1, *shape), (0, 1, 2, 3)),
    "HWC": (lambda shape: (1, *shape), (0, 3, 1, 2)),
    "CHW": (lambda shape: (1, *shape), (0, 1, 2, 3)),
    "NHW": (lambda shape: (shape[0], 1, *shape[1:]), (0, 1, 2, 3)),
    "NCHW": (lambda shape: shape, (0, 1, 2, 3)),
    "NHWC": (lambda shape: shape, (0, 3, 1, 2)),
}


def read_npy(file: BinaryIO, max_pixels: int) -> Picture:
    """The array in an .npy file.

    Raises:
        PipelineError: it does not hold images, or more than `max_pixels`.
    """
    array = _load(file, "it", max_pixels)
    pixels, alpha = _to_images(array, "it")
    return Picture(pixels, alpha, "NPY", partial(_encode_npy, array.shape, array.dtype, alpha))


def read_npz(file: BinaryIO, max_pixels: int) -> Picture:
    """All arrays in an .npz file, one after the other.

    Raises:
        PipelineError: one of them does not hold images, they differ in size or type, or they hold more than
            `max_pixels` together.
    """
    kinds: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
    images: list[tuple[np.ndarray, np.ndarray | None]] = []
    first = ""
    with zipfile.ZipFile(file) as archive:
        for entry in archive.namelist():
            name = entry.removesuffix(".npy")
            with archive.open(entry) as content:
                array = _load(content, f"its array '{name}'", max_pixels)
            pixels, alpha = _to_images(array, f"its array '{name}'")
            images.append((pixels, alpha))
            max_pixels -= len(pixels) * pixels.shape[2] * pixels.shape[3]
            first = first or name
            wanted, found = (_describe(*images[0]), _describe(pixels, alpha))
            if wanted != found:
                raise PipelineError(f"its arrays differ: '{first}' holds {wanted}, '{name}' holds {found}")
            kinds[name] = (array.shape, array.dtype)
    if not images:
        raise PipelineError("it holds no arrays")
    alphas = [alpha for _, alpha in images if alpha is not None]
    counts = [len(pixels) for pixels, _ in images]
    joint = np.concatenate(alphas) if alphas else None
    return Picture(
        np.concatenate([pixels for pixels, _ in images]), joint, "NPZ", partial(_encode_npz, kinds, counts, joint)
    )


def _load(file: IO[bytes], what: str, max_pixels: int) -> np.ndarray:
    try:
        version = np.lib.format.read_magic(file)
        read_header = {1: np.lib.format.read_array_header_1_0}.get(version[0], np.lib.format.read_array_header_2_0)
        shape, _, dtype = read_header(file)
        if not dtype.hasobject:
            images, _, height, width = _full_shape(shape, what)
            check_size(images * height * width, max_pixels, what)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise PipelineError(f"{what} holds Python objects (pickled) instead of numbers") from error
        raise


def _describe(pixels: np.ndarray, alpha: np.ndarray | None) -> str:
    channels, height, width = pixels.shape[1:]
    return f"{height}x{width} pixels of {counted(channels + (alpha is not None), 'channel')} as {pixels.dtype}"


def _order(shape: tuple[int, ...], what: str) -> str:
    """The names of the axes, as the text at the top of this module says."""
    if len(shape) == 2:
        return "HW"
    if len(shape) == 3:
        if shape[2] < SMALLEST_SIDE:
            return "HWC"
        return "CHW" if shape[0] in (1, 3) else "NHW"
    if len(shape) == 4:
        if min(shape[1], shape[3]) > MAX_CHANNELS:
            raise PipelineError(
                f"{what} has {min(shape[1], shape[3])} channels (its shape is {list(shape)}); "
                f"at most {MAX_CHANNELS} are allowed"
            )
        return "NCHW" if shape[1] <= shape[3] else "NHWC"
    raise PipelineError(
        f"{what} has the shape {list(shape)}; allowed are [H, W], [H, W, C], [C, H, W], [N, H, W], [N, C, H, W] "
        "and [N, H, W, C]"
    )


def _full_shape(shape: tuple[int, ...], what: str) -> tuple[int, ...]:
    """The sizes N, C, H, W of an array of that shape."""
    full, axes = _ORDERS[_order(shape, what)]
    sizes = full(shape)
    return tuple(sizes[axis] for axis in axes)


def _to_images(array: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels [N, C, H, W], and alpha [N, H, W] if there is one."""
    numbers = checked(array, what)
    order = _order(array.shape, what)
    full, axes = _ORDERS[order]
    images = np.ascontiguousarray(numbers.reshape(full(array.shape)).transpose(axes))
    check_finite(images, what)
    if order in ("HWC", "NHWC") and images.shape[1] == 4:
        return images[:, :3], images[:, 3]
    return images, None


def _from_images(shape: tuple[int, ...], dtype: np.dtype, alpha: np.ndarray | None, pixels: np.ndarray) -> np.ndarray:
    """The array of that shape and type which `_to_images` makes into `pixels` and `alpha`."""
    _, axes = _ORDERS[_order(shape, "")]
    return joined(pixels, alpha).transpose(np.argsort(axes)).reshape(shape).astype(dtype)


def _encode_npy(shape: tuple[int, ...], dtype: np.dtype, alpha: np.ndarray | None, pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, _from_images(shape, dtype, alpha, pixels))
    return content.getvalue()


def _encode_npz(
    kinds: Mapping[str, tuple[tuple[int, ...], np.dtype]],
    counts: list[int],
    alpha: np.ndarray | None,
    pixels: np.ndarray,
) -> bytes:
    content = io.BytesIO()
    start = 0
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for (name, (shape, dtype)), count in zip(kinds.items(), counts, strict=True):
            part = slice(start, start + count)
            archive.writestr(
                f"{name}.npy", _encode_npy(shape, dtype, None if alpha is None else alpha[part], pixels[part])
            )
            start += count
    return content.getvalue()
