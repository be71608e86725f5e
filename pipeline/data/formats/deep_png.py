"""PNG files with 16 bits per colour or with 16 bits and alpha, of which Pillow keeps 8: here all of them are kept."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

from pipeline.data.formats.picture import joined
from pipeline.data.formats.said import PNG_START, chunk

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # of PNG, by the number of channels with alpha
_UP = 2  # the filter of PNG that stores the difference to the row above


def is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether a file that Pillow has opened is a PNG file of this kind."""
    return image.format == "PNG" and image.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in image.tile)


def read_deep(file: BinaryIO) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels uint16 [1, C, H, W], and alpha [1, H, W] if there is one. One colour for transparent becomes alpha."""
    raw_mode, key = _facts(file)
    if raw_mode == "LA;16B":
        # Gray and alpha have as many bytes with 16 bits as red, green, blue and alpha have with 8.
        array = np.ascontiguousarray(_unpacked(file, "RGBA")).view(">u2")
    else:
        # Pillow drops the lower byte of each value; of numbers that begin with the lower byte it drops the upper one.
        upper = _unpacked(file, raw_mode).astype(np.uint16)
        array = upper << 8 | _unpacked(file, raw_mode.replace(";16B", ";16L"))
    planes = np.ascontiguousarray(array.transpose(2, 0, 1), np.uint16)[np.newaxis]
    if planes.shape[1] in (2, 4):
        return planes[:, :-1], planes[:, -1]
    if key is not None:
        return planes, (array != np.array(key)).any(axis=-1)[np.newaxis] * np.uint16(65535)
    return planes, None


def _facts(file: BinaryIO) -> tuple[str, tuple[int, ...] | None]:
    file.seek(0)
    with Image.open(file, formats=("PNG",)) as image:
        return str(image.tile[0].args), image.info.get("transparency")


def _unpacked(file: BinaryIO, raw_mode: str) -> np.ndarray:
    """The bytes [H, W, C] that Pillow takes if told that the pixels in the file are in that order."""
    file.seek(0)
    with Image.open(file, formats=("PNG",)) as image:
        image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
        return np.asarray(image)


def encode_deep(alpha: np.ndarray | None, chunks: bytes, pixels: np.ndarray) -> bytes:
    """A PNG file with 16 bits.

    Args:
        alpha: uint16 [1, H, W], or None.
        chunks: what is stored besides the pixels.
        pixels: uint16 [1, C, H, W] with C 1 or 3.
    """
    array = joined(pixels, alpha)[0].transpose(1, 2, 0)
    height, width, channels = array.shape
    rows = np.ascontiguousarray(array, ">u2").view(np.uint8).reshape(height, -1)
    filtered = np.full((height, rows.shape[1] + 1), _UP, np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0)
    parts = (
        PNG_START,
        chunk(b"IHDR", header),
        chunks,
        chunk(b"IDAT", zlib.compress(filtered.data)),
        chunk(b"IEND", b""),
    )
    return b"".join(parts)
