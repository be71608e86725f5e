"""Writing TIFF files page by page, with the axes and the tags that were read."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tifffile

from pipeline.data.formats.picture import joined

_BIG = 2**32 - 2**25  # bytes from which on a TIFF file needs 64-bit offsets
_KEPT = (
    *(269, 271, 272, 274, 285, 297, 305, 306, 315, 316, 33432),  # names, orientation, software, date, author, copyright
    *(700, 34675, 51123),  # XMP, ICC profile, metadata of Micro-Manager
    *(33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113),  # GeoTIFF and GDAL
    *(50838, 50839),  # ImageJ
)
_DESCRIPTION = 270
_RESOLUTION = (282, 283, 296)


@dataclass(frozen=True)
class Page:
    """What a page is written with besides its pixels: arguments of `TiffWriter.write`."""

    arguments: dict[str, Any]

    @classmethod
    def of(cls, page: tifffile.TiffPage) -> Page:
        """Of a page that is open."""
        arguments: dict[str, Any] = {"extratags": []}
        for tag in page.tags:
            if tag.code in _KEPT:
                arguments["extratags"].append((tag.code, tag.dtype, tag.count, _bytes(tag), True))
            elif tag.code == _DESCRIPTION:  # the first one: tifffile may add its own
                arguments.setdefault("description", _bytes(tag))
        across, along, unit = (page.tags.get(code) for code in _RESOLUTION)
        if across and along and all(across.value) and all(along.value):
            arguments |= {"resolution": (across.value, along.value), "resolutionunit": int(unit.value) if unit else 2}
        return cls(arguments)


def _bytes(tag: tifffile.TiffTag) -> bytes:
    file = tag.parent.filehandle
    file.seek(tag.valueoffset)
    return file.read(tag.valuebytecount)


@dataclass(frozen=True)
class Stack:
    """A series of planes of one shape, and how they lie in the file."""

    axes: str  # of the array that holds all planes: letters of tifffile, such as TZCYX
    shape: tuple[int, ...]  # of that array
    dtype: np.dtype  # of the pixels in the file
    plane: int  # trailing axes that make up a plane
    order: np.ndarray  # the numbers of the planes in the order of their pages
    pages: list[Page]  # in this order; fewer than planes if the last ones have none of their own
    photometric: tifffile.PHOTOMETRIC
    extrasamples: tuple[int, ...]  # what the channels beyond those of the colour are
    compressed: bool

    @property
    def has_samples(self) -> bool:
        return "S" in self.axes

    @property
    def _moved(self) -> list[int]:
        """The places of the axes in the order: those along which images lie, channels, height, width."""
        channels = "S" if "S" in self.axes else "C"
        last = [place for letter in (channels, "Y", "X") if (place := self.axes.find(letter)) >= 0]
        return [place for place in range(len(self.axes)) if place not in last] + last

    def to_images(self, array: np.ndarray) -> np.ndarray:
        """The array of all planes as images [N, C, H, W]."""
        array = array.transpose(self._moved)
        channels = array.shape[-3] if set(self.axes) & {"S", "C"} else 1
        return array.reshape(-1, channels, *array.shape[-2:])

    def from_images(self, images: np.ndarray) -> np.ndarray:
        """The inverse of `to_images`."""
        moved = self._moved
        return images.reshape([self.shape[place] for place in moved]).transpose(np.argsort(moved))

    @property
    def images(self) -> int:
        """N."""
        taken = {"Y", "X", "S" if self.has_samples else "C"}
        return int(np.prod([size for letter, size in zip(self.axes, self.shape, strict=True) if letter not in taken]))


def encode_tiff(
    stacks: Sequence[Stack], byteorder: Literal["<", ">"], is_big: bool, alpha: np.ndarray | None, pixels: np.ndarray
) -> bytes:
    """A TIFF file with the images of all stacks, one after the other.

    Args:
        stacks: where the images go.
        byteorder: of the numbers in the file.
        is_big: whether it is a BigTIFF file whatever its size is.
        alpha: [N, H, W], or None.
        pixels: [N, C, H, W].
    """
    images = joined(pixels, alpha)
    content = io.BytesIO()
    with tifffile.TiffWriter(content, bigtiff=is_big or images.nbytes > _BIG, byteorder=byteorder) as writer:
        start = 0
        for stack in stacks:
            _write_stack(writer, stack, images[start : start + stack.images])
            start += stack.images
    return content.getvalue()


def _write_stack(writer: tifffile.TiffWriter, stack: Stack, images: np.ndarray) -> None:
    array = stack.from_images(images)
    if stack.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        array = inverted(array)
    planes = array.reshape(-1, *array.shape[array.ndim - stack.plane :])
    for number, place in enumerate(stack.order):
        writer.write(
            planes[place].astype(stack.dtype),
            photometric=stack.photometric.name.lower(),
            planarconfig=_planar(stack.axes[-stack.plane :]),
            extrasamples=stack.extrasamples or None,
            compression="zlib" if stack.compressed else None,
            metadata=None,
            software=False,
            **(stack.pages[number].arguments if number < len(stack.pages) else {}),
        )


def _planar(axes: str) -> str | None:
    return None if "S" not in axes else "contig" if axes.endswith("S") else "separate"


def inverted(pixels: np.ndarray) -> np.ndarray:
    """Pixels for which 0 is white as those for which 0 is black, and the other way round."""
    return 1 - pixels if pixels.dtype.kind == "f" else ~pixels
