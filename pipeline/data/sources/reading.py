"""Reading many files of images: each once, by several threads, into a file instead of memory."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.config import AUTO
from pipeline.data.image_files import read_picture
from pipeline.data.images import SMALLEST_SIDE
from pipeline.data.sources import Channels
from pipeline.errors import PipelineError
from pipeline.files import printable, sha256_bytes, sha256_file

_THREADS = 8  # at most; decoders of images and SHA-256 let other threads run
_NAMED = 20  # unreadable files that a message names; it counts the others
_COLOURS = 3
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class ImageFile:
    """What a file holds."""

    path: Path
    sha256: str  # of the file
    pixels: np.ndarray  # uint8, uint16 or float32 [N, C, H, W]: N images, upright
    sums: tuple[str, ...]  # SHA-256 of the pixels of each image; "" where all pixels of it are equal
    lowest: float  # of all pixels
    highest: float


def read_files(paths: Sequence[Path], channels: Channels, scratch: Path) -> list[ImageFile]:
    """Read files of images.

    Args:
        paths: of the files.
        channels: 1: colour becomes gray; AUTO: what the files have.
        scratch: an existing folder. The pixels are in a file without a name there, which takes the space of all images
            as long as something refers to one of them.

    Raises:
        PipelineError: files cannot be read, are too small, or do not have as many channels; it names them all.
    """
    problems: list[tuple[Path, str]] = []
    places: list[tuple[ImageFile, int]] = []
    try:
        with tempfile.TemporaryFile(dir=scratch) as file:
            for path, result in zip(paths, _in_turn(lambda path: _read(path, channels), paths), strict=True):
                if isinstance(result, str):
                    problems.append((path, result))
                elif not problems:
                    places.append((result, file.tell()))
                    file.write(result.pixels.data)
            if problems:
                raise PipelineError(_describe(problems, len(paths)))
            file.flush()
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise PipelineError(f"cannot write images to {scratch}: {error.strerror or error}") from error
    return [_mapped(image, content, start) for image, start in places]


def sha256_files(paths: Sequence[Path]) -> list[str]:
    """The SHA-256 of files.

    Raises:
        PipelineError: one cannot be read.
    """
    try:
        return list(_in_turn(sha256_file, paths))
    except OSError as error:
        raise PipelineError(f"cannot read {printable(error.filename)}: {error.strerror}") from error


def converted(pixels: np.ndarray, channels: Channels) -> np.ndarray:
    """Pixels [N, C, H, W] with this number of channels.

    Colour becomes gray by the luma of ITU-R BT.601, rounded as Pillow does: 0.299 R + 0.587 G + 0.114 B.

    Raises:
        PipelineError: they have others, and are not colour that becomes gray.
    """
    has = pixels.shape[1]
    if channels in (AUTO, has):
        return pixels
    if has == 1 and channels == _COLOURS:
        raise PipelineError("it is a gray image; with --channels 3 all must be in colour, or use --channels 1")
    if has != _COLOURS or channels != 1:
        raise PipelineError(
            f"it has {has} channels, which --channels {channels} does not allow; use --channels {has}, or auto"
        )
    if pixels.dtype == np.float32:
        return np.tensordot(pixels, np.array([0.299, 0.587, 0.114], np.float32), axes=(1, 0))[:, np.newaxis]
    red, green, blue = np.moveaxis(pixels.astype(np.uint32), 1, 0)
    # In 16 bits after the point. With 16-bit pixels, the sum just fits into 32 bits.
    gray = (red * 19595 + green * 38470 + blue * 7471 + 2**15) >> 16
    return gray.astype(pixels.dtype)[:, np.newaxis]


def _read(path: Path, channels: Channels) -> ImageFile | str:
    """The content of a file; or what is wrong with it."""
    try:
        pixels = np.ascontiguousarray(converted(read_picture(path).pixels, channels))
        height, width = pixels.shape[-2:]
        if min(height, width) < SMALLEST_SIDE:
            return (
                f"it is {height}x{width} pixels (height x width); at least {SMALLEST_SIDE}x{SMALLEST_SIDE} are needed, "
                "the window of SSIM"
            )
        lowest, highest = (function(axis=(1, 2, 3)) for function in (pixels.min, pixels.max))
        sums = tuple(
            "" if low == high else sha256_bytes(image.data)
            for image, low, high in zip(pixels, lowest, highest, strict=True)
        )
        return ImageFile(path, sha256_file(path), pixels, sums, float(lowest.min()), float(highest.max()))
    except PipelineError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"


def _mapped(image: ImageFile, content: mmap.mmap, start: int) -> ImageFile:
    pixels = np.frombuffer(content, image.pixels.dtype, image.pixels.size, start).reshape(image.pixels.shape)
    return replace(image, pixels=pixels)


def _describe(problems: list[tuple[Path, str]], count: int) -> str:
    if len(problems) == 1:
        ((path, reason),) = problems
        return f"cannot use {printable(path)}: {reason}"
    reasons: dict[str, list[str]] = {}
    for path, reason in problems[:_NAMED]:
        reasons.setdefault(reason, []).append(printable(path))
    texts = [f"{', '.join(paths)}: {reason}" for reason, paths in reasons.items()]
    more = f"; and {len(problems) - _NAMED:,} more" if len(problems) > _NAMED else ""
    return f"cannot use {len(problems):,} of {count:,} images: {'; '.join(texts)}{more}"


def _in_turn(function: Callable[[Path], _Result], paths: Iterable[Path]) -> Iterator[_Result]:
    """The results for all paths in order, by several threads; few wait to be taken at a time, as they may be large."""
    count = min(_THREADS, os.cpu_count() or 1)
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(count) as threads:
        try:
            for path in paths:
                waiting.append(threads.submit(function, path))
                if len(waiting) > 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)
