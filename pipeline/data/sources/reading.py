"""Reading many files of images: each once, by several threads, into a file instead of memory."""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import BinaryIO, TypeVar

import numpy as np

from pipeline.config import AUTO
from pipeline.data.image_files import read_picture
from pipeline.data.images import SMALLEST_SIDE
from pipeline.data.sources import Channels
from pipeline.errors import PipelineError, counted
from pipeline.files import open_file, sha256_bytes, sha256_file
from pipeline.text import printable

_THREADS = 8  # at most; decoders of images and SHA-256 let other threads run
_NAMED = 20  # unreadable files that a message names; it counts the others
_COLOURS = 3
_SAMPLES = 256  # pixels of an image that tell most images apart
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class ImageFile:
    """What a file holds."""

    path: Path
    sha256: str  # of the file
    pixels: np.ndarray  # uint8, uint16 or float32 [N, C, H, W]: N images, upright
    contents: tuple[bytes, ...]  # for each image the same as for images that are equal to it; b"" if it has one value
    lowest: float  # pixel of all
    highest: float
    was_colour: bool = False  # and became gray


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
    try:
        with tempfile.TemporaryFile(dir=scratch) as file:
            kept = _Kept(file)
            results = _in_threads(lambda path: _read(path, channels, kept), paths)
            problems = [(path, text) for path, text in zip(paths, results, strict=True) if isinstance(text, str)]
            if problems:
                raise PipelineError(_describe(problems, len(paths)))
            content = kept.content()
    except OSError as error:
        raise PipelineError(f"cannot write images to {scratch}: {error.strerror or error}") from error
    return _told_apart([result(content) for result in results if not isinstance(result, str)])


def sha256_files(paths: Sequence[Path]) -> list[str]:
    """The SHA-256 of files.

    Raises:
        PipelineError: one cannot be read.
    """
    try:
        return _in_threads(sha256_file, paths)
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
        raise PipelineError("it is a gray image, which cannot become colour; allowed are 3 channels")
    if has != _COLOURS or channels != 1:
        raise PipelineError(
            f"it has {counted(has, 'channel')}, which cannot become {channels}; allowed are {channels}"
            + (", and 3 (colour), which become gray" if channels == 1 else "")
        )
    if pixels.dtype == np.float32:
        return np.tensordot(pixels, np.array([0.299, 0.587, 0.114], np.float32), axes=(1, 0))[:, np.newaxis]
    red, green, blue = np.moveaxis(pixels.astype(np.uint32), 1, 0)
    # In 16 bits after the point. With 16-bit pixels, the sum just fits into 32 bits.
    gray = (red * 19595 + green * 38470 + blue * 7471 + 2**15) >> 16
    return gray.astype(pixels.dtype)[:, np.newaxis]


class _Kept:
    """Arrays that are kept in a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._lock, self._size = file, Lock(), 0

    def add(self, array: np.ndarray) -> int:
        """Write an array, and return where it begins."""
        with self._lock:
            start = self._size
            self._file.write(array.data)
            self._size += array.nbytes
            return start

    def content(self) -> mmap.mmap:
        """All arrays, mapped from the file."""
        self._file.flush()
        return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)


def _read(path: Path, channels: Channels, kept: _Kept) -> Callable[[mmap.mmap], ImageFile] | str:
    """What makes the result for a file, given the content of `kept`; or what is wrong with the file."""
    try:
        with open_file(path) as file:
            data = file.read()
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    try:
        upright = read_picture(BytesIO(data)).upright
        pixels = np.ascontiguousarray(converted(upright, channels))
    except PipelineError as error:
        return str(error)
    height, width = pixels.shape[-2:]
    if min(height, width) < SMALLEST_SIDE:
        return (
            f"it is {height}x{width} pixels (height x width); at least {SMALLEST_SIDE}x{SMALLEST_SIDE} are needed, "
            "the window of SSIM"
        )
    lows, highs = ([function(image).item() for image in pixels] for function in (np.min, np.max))
    samples = tuple(
        b"" if low == high else image.reshape(-1)[:: max(1, image.size // _SAMPLES)].tobytes()
        for image, low, high in zip(pixels, lows, highs, strict=True)
    )
    start, shape, dtype, digest = kept.add(pixels), pixels.shape, pixels.dtype, sha256_bytes(data)
    was_colour = upright.shape[1] != shape[1]

    def result(content: mmap.mmap) -> ImageFile:
        images = np.ndarray(shape, dtype, content, start)
        return ImageFile(path, digest, images, samples, min(lows), max(highs), was_colour)

    return result


def _told_apart(files: list[ImageFile]) -> list[ImageFile]:
    """The files with the SHA-256 of the images whose samples are equal, so that only these are read once more."""
    counts = Counter(sample for file in files for sample in file.contents if sample)
    if not counts or counts.most_common(1)[0][1] == 1:
        return files
    return [
        replace(
            file,
            contents=tuple(
                hashlib.sha256(image).digest() if counts[sample] > 1 else sample
                for image, sample in zip(file.pixels, file.contents, strict=True)
            ),
        )
        for file in files
    ]


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


def _in_threads(function: Callable[[Path], _Result], paths: Sequence[Path]) -> list[_Result]:
    """The results for all paths."""
    results: dict[int, _Result] = {}
    numbers = iter(range(len(paths)))

    def work() -> None:
        try:
            for number in numbers:  # the next one that no other thread has
                results[number] = function(paths[number])
        except BaseException:
            _exhaust(numbers)
            raise

    count = min(_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(count) as threads:
        try:
            for future in [threads.submit(work) for _ in range(count)]:
                future.result()
        except BaseException:  # also Ctrl-C, which only this thread sees
            _exhaust(numbers)
            raise
    return [results[number] for number in range(len(paths))]


def _exhaust(numbers: Iterator[int]) -> None:
    """Let threads that take from these end."""
    for _ in numbers:
        pass
