"""PNG files with 16 bits per colour or with 16 bits and alpha, of which Pillow keeps 8: here all of them are kept."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from pipeline.data.formats.picture import joined

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # of PNG, by the number of channels with alpha
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # of Pillow, likewise
_UP = 2  # the filter of PNG that stores the difference to the row above
_START = 8  # bytes before the first chunk


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


def encode_deep(alpha: np.ndarray | None, info: Mapping[str, Any], pixels: np.ndarray) -> bytes:
    """A PNG file with 16 bits.

    Args:
        alpha: uint16 [1, H, W], or None.
        info: what Pillow is to store besides the pixels.
        pixels: uint16 [1, C, H, W] with C 1 or 3.
    """
    array = joined(pixels, alpha)[0].transpose(1, 2, 0)
    height, width, channels = array.shape
    rows = np.ascontiguousarray(array, ">u2").view(np.uint8).reshape(height, -1)
    filtered = np.full((height, rows.shape[1] + 1), _UP, np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    small = io.BytesIO()
    Image.new(_MODES[channels], (1, 1)).save(small, "PNG", **info)
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0)
    return _with_chunks(small.getvalue(), {b"IHDR": header, b"IDAT": zlib.compress(filtered.tobytes())})


def _with_chunks(png: bytes, others: Mapping[bytes, bytes]) -> bytes:
    """A PNG file in which some chunks, which occur once each, have other contents."""
    content, at = [png[:_START]], _START
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        name, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        data = others.get(name, data)
        content += [struct.pack(">I", len(data)), name, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))]
        at += 12 + length
    return b"".join(content)
