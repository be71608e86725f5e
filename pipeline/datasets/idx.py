"""The idx format of MNIST and its relatives: a 4-byte magic number, big-endian sizes, then the values."""

from __future__ import annotations

import math
import struct

import numpy as np

from pipeline.errors import PipelineError

_UNSIGNED_BYTE = 0x08


def parse_idx(data: bytes, name: str) -> np.ndarray:
    """The images of an uncompressed idx file: uint8 [N, H, W].

    Args:
        data: the whole file: 0, 0, type (8 is unsigned byte), number of dimensions (3), then a 4-byte
            big-endian size for each dimension, then one byte a pixel.
        name: what error messages call it.

    Raises:
        PipelineError: `data` is not such a file, or is shorter or longer than its sizes say.
    """
    header = 4 + 3 * 4
    if len(data) < header or data[:4] != bytes([0, 0, _UNSIGNED_BYTE, 3]):
        raise PipelineError(
            f"{name} is not an idx file of images: it starts with 0x{data[:4].hex()} "
            f"and has {len(data):,} bytes; expected 0x00000803 and at least {header} bytes"
        )
    shape = struct.unpack(">3I", data[4:header])
    if len(data) - header != math.prod(shape):
        raise PipelineError(
            f"{name} is truncated or damaged: its header promises {' x '.join(map(str, shape))} = "
            f"{math.prod(shape):,} bytes, {len(data) - header:,} follow"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
