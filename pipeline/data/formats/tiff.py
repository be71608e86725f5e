"""TIFF files: every page or plane is an image.

The axes are those that the file states (OME, ImageJ and other descriptions), or else its pages. Samples per pixel (S),
or else channels (C), are the channels of an image; planes along all other axes (time, depth, series, …) are images.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from pipeline.data.formats.by_pillow import pillow_array
from pipeline.data.formats.picture import Picture, check_finite, check_size, checked, in_eight, stored
from pipeline.data.formats.tiff_writing import SMALLER_COPIES, Page, Stack, encode_tiff
from pipeline.errors import PipelineError

_KINDS = tifffile.PHOTOMETRIC
_READ = (_KINDS.MINISWHITE, _KINDS.MINISBLACK, _KINDS.RGB, _KINDS.PALETTE, _KINDS.SEPARATED, _KINDS.YCBCR)
_ALPHA = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
_ORIENTATION, _DNG = 274, 50706  # tags: the latter has the version of DNG
_REDUCED, _MASK = 1, 4  # bits of the tag NewSubfileType
_FULL_DEPTH = ("I;16", "I;16B", "I;16N", "F")  # modes of Pillow that hold more than 8 bits


def read_tiff(file: BinaryIO, max_pixels: int) -> Picture:
    """All images in a TIFF file, which must have one size and type.

    Raises:
        PipelineError: it cannot be read, a page is missing or empty, they differ, or have more than `max_pixels`.
    """
    complaints = _Complaints()
    logging.getLogger("tifffile").addHandler(complaints)
    try:
        # A file of an OME series that is spread over several files stands for its own planes only.
        with tifffile.TiffFile(file, _multifile=False) as tiff:
            pages, has_others = _main_pages(tiff)
            complaints.check()
            found = [series for series in tiff.series if _is_main(series.keyframe)]
            check_size(sum(math.prod(series.shape) // _channels(series) for series in found), max_pixels)
            read = [_read_series(series, file) for series in found]
            complaints.check()
            byteorder, is_big = tiff.byteorder, tiff.is_bigtiff
    finally:
        logging.getLogger("tifffile").removeHandler(complaints)
    stacks = [stack for _, stack in read]
    images = [stack.to_images(array) for array, stack in read]
    pixels = checked(np.concatenate(images) if len(images) > 1 else images[0])
    check_finite(pixels)
    extra, alpha = stacks[0].extrasamples, None
    if stacks[0].has_samples and extra and extra[-1] in _ALPHA and pixels.shape[1] > 1:
        pixels, alpha = pixels[:, :-1], pixels[:, -1]
    orientation = int(pages[0].tags.valueof(_ORIENTATION, 1))
    is_cmyk = stacks[0].photometric == _KINDS.SEPARATED and pixels.shape[1] == 4 and pixels.dtype.kind == "u"
    encode = partial(encode_tiff, stacks, byteorder, is_big, alpha)
    is_gray = stacks[0].photometric in (_KINDS.MINISWHITE, _KINDS.MINISBLACK)
    left_out = [*in_eight(pages[0].bitspersample if is_gray else 8)]
    left_out += [name for stack in stacks for page in stack.pages for name in page.left_out]
    left_out += [SMALLER_COPIES] if has_others else []
    return Picture(pixels, alpha, "TIFF", encode, orientation, is_cmyk, tuple(dict.fromkeys(left_out)))


class _Complaints(logging.Handler):
    """What tifffile logs instead of raising it: pages that it could not read, and so left out."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.first = ""
        self._thread = threading.get_ident()  # others read other files

    def emit(self, record: logging.LogRecord) -> None:
        # A description that it cannot parse does not count: the pages are still there.
        if record.thread == self._thread and "series raised" not in record.getMessage():
            self.first = self.first or record.getMessage()

    def check(self) -> None:
        if self.first:
            raise PipelineError(f"it is damaged: {self.first}")


def _is_main(page: Any) -> bool:
    """Whether it is an image of its own, rather than a small copy or a mask of another one."""
    return not int(page.subfiletype or 0) & (_REDUCED | _MASK)


def _main_pages(tiff: tifffile.TiffFile) -> tuple[list[tifffile.TiffPage], bool]:
    """The pages with images, after a look at each of them; and whether there are other pages."""
    every = [page.aspage() for page in tiff.pages]
    if every and (_DNG in every[0].tags or (every[0].subifds and not _is_main(every[0]))):
        raise PipelineError("it is a raw file of a camera; convert it to a TIFF or PNG file with 16 bits first")
    pages = [page for page in every if _is_main(page)]
    if not pages:
        raise PipelineError("it holds no pages that can be read")
    for page in pages:
        name = f"its page {page.index + 1}"
        if not page.size or not sum(page.databytecounts):
            raise PipelineError(f"{name} is empty")
        if page.photometric not in _READ:
            kind = getattr(page.photometric, "name", page.photometric)
            raise PipelineError(f"{name} has colours of the kind {kind}; allowed are gray, RGB, CMYK and palettes")
    others = [page for page in pages if (page.shape, page.dtype) != (pages[0].shape, pages[0].dtype)]
    if others:
        sizes = [f"page {page.index + 1} is {_size(page)}" for page in (pages[0], others[0])]
        raise PipelineError(f"its pages differ: {', '.join(sizes)}")
    return pages, len(pages) < len(every)


def _size(page: tifffile.TiffPage) -> str:
    samples = f" with {page.samplesperpixel} channels" if page.samplesperpixel > 1 else ""
    return f"{page.imagelength}x{page.imagewidth} {page.dtype}{samples}"


def _channels(series: tifffile.TiffPageSeries) -> int:
    axis = next((series.axes.index(letter) for letter in "SC" if letter in series.axes), None)
    return 1 if axis is None else max(1, series.shape[axis])


def _read_series(series: tifffile.TiffPageSeries, file: BinaryIO) -> tuple[np.ndarray, Stack]:
    """Its pixels, and how they lie in the file. Bits and palettes are resolved."""
    keyframe, axes = series.keyframe, series.axes
    needed = {"Y", "X"} | ({"S"} & set(keyframe.axes))
    plane = next(count for count in range(1, len(axes) + 1) if needed <= set(axes[-count:]))
    planes = math.prod(series.shape[:-plane])
    pages = series.pages if len(series.pages) == planes else series.pages[:1]  # planes may lie there without pages
    there = [page.aspage() for page in pages if page is not None]
    if len(there) < len(pages):
        raise PipelineError(f"it lacks {len(pages) - len(there)} of its {planes} planes")
    order = np.argsort([page.index for page in there]) if len(there) == planes else np.arange(planes)
    array, dtype = _load(series, there, file), series.dtype
    photometric = _KINDS(keyframe.photometric)
    if array.dtype == bool:
        array, dtype = array * np.uint8(255), np.dtype(np.uint8)
    if photometric == _KINDS.YCBCR:
        photometric = _KINDS.RGB  # as Pillow has read it
    elif photometric == _KINDS.PALETTE:
        array, photometric = _in_colour(array, keyframe), _KINDS.RGB
        dtype = array.dtype
        axes, plane = f"{axes}S", plane + 1
    written = [Page.of(there[number]) for number in order[: len(there)]]
    if len(there) < planes:
        written[0].arguments.pop("description", None)  # that the planes have no pages is not true any more
    extra, compressed = tuple(map(int, keyframe.extrasamples)), keyframe.compression != tifffile.COMPRESSION.NONE
    return array, Stack(axes, array.shape, dtype, plane, order, written, photometric, extra, compressed)


def _in_colour(array: np.ndarray, keyframe: tifffile.TiffPage) -> np.ndarray:
    """Numbers of colours [...] as red, green and blue [..., 3]: in uint8, unless the colours have more than 8 bits."""
    colours = keyframe.colormap
    assert colours is not None
    upper, lower = colours >> 8, colours & 255
    if ((lower == 0) | (lower == upper)).all():
        colours = upper.astype(np.uint8)
    return colours.T[array]


def _load(series: tifffile.TiffPageSeries, pages: Sequence[tifffile.TiffPage], file: BinaryIO) -> np.ndarray:
    """The pixels of a series as they are stored: by tifffile, or by Pillow what tifffile cannot read by itself."""
    keyframe = series.keyframe
    if keyframe.photometric != _KINDS.YCBCR and keyframe.bitspersample not in (2, 4):
        try:
            return series.asarray()
        except (ValueError, ImportError, NotImplementedError) as error:
            if isinstance(error, ValueError) and "imagecodecs" not in str(error):
                raise
    planes = [_page_by_pillow(file, page) for page in pages]
    return np.stack(planes).reshape(series.shape)


def _page_by_pillow(file: BinaryIO, page: tifffile.TiffPage) -> np.ndarray:
    """The pixels of a page as they are stored."""
    kind = getattr(page.compression, "name", page.compression)
    needed = PipelineError(
        f"its pixels ({page.bitspersample} bits, compression {kind}) need another package; run: pip install imagecodecs"
    )
    file.seek(0)
    try:
        image = Image.open(file, formats=("TIFF",))
    except UnidentifiedImageError:  # a kind of pixels that Pillow does not have
        raise needed from None
    with image:
        image.seek(page.index)
        if page.bitspersample > 8 and image.mode not in _FULL_DEPTH:
            raise needed
        is_palette = image.mode == "P"
        array = np.asarray(image) if is_palette else pillow_array(image)
        was_inverted = page.photometric == _KINDS.MINISWHITE and array.dtype == np.uint8
        # Pillow turns what it loads upright, and then says so; here it is to stay as it is stored.
        was_turned = image.getexif().get(_ORIENTATION, 1) == 1
    planes = array[np.newaxis] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    if was_turned:
        planes = stored(planes, int(page.tags.valueof(_ORIENTATION, 1)))
    if was_inverted:
        planes = ~planes
    if page.axes.startswith("S"):
        return planes
    return planes[0] if len(planes) == 1 else np.moveaxis(planes, 0, -1)
