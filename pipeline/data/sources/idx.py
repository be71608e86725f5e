"""The idx format of MNIST and its relatives: a 4-byte magic number, big-endian sizes, then the values."""

from __future__ import annotations

import math
import struct

import numpy as np

from pipeline.config import AUTO
from pipeline.data.images import SMALLEST_SIDE
from pipeline.data.sources import Channels
from pipeline.errors import PipelineError

_UNSIGNED_BYTE = 0x08


def parse_idx(data: bytes, name: str, dimensions: int = 3) -> np.ndarray:
    """The content of an uncompressed idx file: uint8 [N, H, W] for images, [N] for labels.

    Args:
        data: the whole file: 0, 0, type (8 is unsigned byte), number of dimensions, then a 4-byte big-endian size for
            each dimension, then one byte per value.
        name: of the file, for error messages.
        dimensions: 3 for images, 1 for labels.

    Raises:
        PipelineError: `data` is not such a file, does not have the length that its sizes imply, or holds images that
            are too small.
    """
    header = 4 + dimensions * 4
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if len(data) < header or data[:4] != magic:
        raise PipelineError(
            f"{name} is not an idx file of {dimensions} dimensions: it starts with 0x{data[:4].hex()} "
            f"and has {len(data):,} bytes; expected 0x{magic.hex()} and at least {header} bytes"
        )
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    if len(data) - header != math.prod(shape):
        raise PipelineError(
            f"{name} is truncated or damaged: its header promises {' x '.join(map(str, shape))} = "
            f"{math.prod(shape):,} bytes, but {len(data) - header:,} follow"
        )
    if dimensions == 3 and min(shape[1:]) < SMALLEST_SIDE:
        raise PipelineError(
            f"{name} holds images of {shape[1]}x{shape[2]} pixels (height x width); at least "
            f"{SMALLEST_SIDE}x{SMALLEST_SIDE} are needed, the window of SSIM"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def as_gray(images: np.ndarray, channels: Channels, dataset: str) -> np.ndarray:
    """[N, H, W] to [N, 1, H, W].

    Raises:
        PipelineError: `channels` is neither 1 nor AUTO.
    """
    if channels not in (1, AUTO):
        raise PipelineError(f"--channels {channels}: the images of {dataset} are gray; use --channels 1")
    return images[:, np.newaxis]
