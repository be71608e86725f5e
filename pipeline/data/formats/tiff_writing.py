"""Writing TIFF files page by page, with the axes and the tags that were read."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import tifffile

from pipeline.data.formats.picture import joined
from pipeline.data.formats.tiff_directories import DIRECTORIES, Directory, stored_bytes

_BIG = 2**32 - 2**25  # bytes from which on a TIFF file needs 64-bit offsets
_KEPT = {
    *(269, 271, 272, 274, 285, 286, 287, 297, 305, 306, 315, 316, 33432),  # names, orientation, software, date, author
    *(18246, 18249, 40091, 40092, 40093, 40094, 40095),  # titles, comments and ratings of Windows
    *(318, 319, 332, 333, 334, 336, 337),  # white point, primaries, inks
    *(700, 33723, 34377, 34675, 51123),  # XMP, IPTC, settings of Photoshop, ICC profile, metadata of Micro-Manager
    *(33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113),  # GeoTIFF and GDAL
    *(50838, 50839),  # ImageJ
}
_DESCRIPTION = 270
_RESOLUTION = (282, 283, 296)
_OF_STORAGE = {  # how the pixels were stored, which is written anew or is true no more
    *(254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291, 292, 293),
    *(317, 320, 321, 322, 323, 324, 325, 338, 339, 340, 341, 347, 512, 513, 514, 519, 520, 521, 529, 530, 531, 532),
}
_OTHER_IMAGES = 330
SMALLER_COPIES = "smaller copies in it"


@dataclass(frozen=True)
class Page:
    """What a page is written with besides its pixels."""

    arguments: dict[str, Any]  # of `TiffWriter.write`
    directories: list[Directory] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # what it had besides, in words

    @classmethod
    def of(cls, page: tifffile.TiffPage) -> Page:
        """Of a page that is open."""
        made = cls({"extratags": []})
        for tag in page.tags:
            if tag.code in _KEPT:
                made.arguments["extratags"].append((tag.code, tag.dtype, tag.count, _value(tag), True))
            elif tag.code == _DESCRIPTION:  # the first one: tifffile may add its own
                made.arguments.setdefault("description", stored_bytes(tag))
            elif tag.code in DIRECTORIES and (directory := Directory.of(tag)):
                made.directories.append(directory)
            elif tag.code == _OTHER_IMAGES:
                made.left_out.append(SMALLER_COPIES)
            elif tag.code not in _OF_STORAGE and tag.code not in _RESOLUTION:
                made.left_out.append(f"its tag {tag.code}" + (f" ({tag.name})" if tag.name != str(tag.code) else ""))
        across, along, unit = (page.tags.get(code) for code in _RESOLUTION)
        if across and along and all(across.value) and all(along.value):
            made.arguments["resolution"] = (across.value, along.value)
            made.arguments["resolutionunit"] = int(unit.value) if unit else 2
        return made


def _value(tag: tifffile.TiffTag) -> bytes | tuple[int, ...]:
    """The value of a tag as `TiffWriter` takes it."""
    value = stored_bytes(tag)
    if tag.dtype not in (tifffile.DATATYPE.RATIONAL, tifffile.DATATYPE.SRATIONAL):
        return value
    sign = "I" if tag.dtype == tifffile.DATATYPE.RATIONAL else "i"  # of bytes, it would write twice as many
    return struct.unpack(f"{tag.parent.tiff.byteorder}{2 * tag.count}{sign}", value)


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
    def channels(self) -> int:
        """C."""
        return next((self.shape[self.axes.index(letter)] for letter in "SC" if letter in self.axes), 1)

    @property
    def _moved(self) -> list[int]:
        """The places of the axes in the order: those along which images lie, channels, height, width."""
        channels = "S" if "S" in self.axes else "C"
        last = [place for letter in (channels, "Y", "X") if (place := self.axes.find(letter)) >= 0]
        return [place for place in range(len(self.axes)) if place not in last] + last

    def to_images(self, array: np.ndarray) -> np.ndarray:
        """The array of all planes as images [N, C, H, W], for which 0 is black."""
        array = array.transpose(self._moved)
        return self._inverted(array.reshape(-1, self.channels, *array.shape[-2:]))

    def from_images(self, images: np.ndarray) -> np.ndarray:
        """The inverse of `to_images`."""
        moved = self._moved
        return self._inverted(images).reshape([self.shape[place] for place in moved]).transpose(np.argsort(moved))

    def _inverted(self, images: np.ndarray) -> np.ndarray:
        """Images for which 0 is white in the file as those for which it is black, and the other way round."""
        if self.photometric != tifffile.PHOTOMETRIC.MINISWHITE:
            return images
        # Extra samples, such as alpha, are what they are.
        count = self.channels - (len(self.extrasamples) if self.has_samples else 0)
        colours = 1 - images[:, :count] if images.dtype.kind == "f" else ~images[:, :count]
        return np.concatenate([colours, images[:, count:]], axis=1)

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
            _write_stack(writer, content, stack, images[start : start + stack.images])
            start += stack.images
    return content.getvalue()


def _write_stack(writer: tifffile.TiffWriter, content: io.BytesIO, stack: Stack, images: np.ndarray) -> None:
    array = stack.from_images(images)
    planes = array.reshape(-1, *array.shape[array.ndim - stack.plane :])
    for number, place in enumerate(stack.order):
        page = stack.pages[number] if number < len(stack.pages) else Page({})
        arguments = page.arguments
        for directory in page.directories:
            arguments = arguments | {"extratags": [*arguments["extratags"], directory.write(content, writer.tiff)]}
        writer.write(
            planes[place].astype(stack.dtype),
            photometric=stack.photometric.name.lower(),
            planarconfig=_planar(stack.axes[-stack.plane :]),
            extrasamples=stack.extrasamples or None,
            compression="zlib" if stack.compressed else None,
            metadata=None,
            software=False,
            **arguments,
        )


def _planar(axes: str) -> str | None:
    return None if "S" not in axes else "contig" if axes.endswith("S") else "separate"
