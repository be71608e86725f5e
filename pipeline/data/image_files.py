"""Reading files of images. What a file is, its first bytes say, not its name."""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from pipeline.config import MAX_CHANNELS
from pipeline.data.formats.arrays import read_npy, read_npz
from pipeline.data.formats.by_pillow import read_by_pillow
from pipeline.data.formats.picture import MAX_PIXELS, Picture
from pipeline.errors import PipelineError
from pipeline.files import open_file

__all__ = ["FORMATS", "HEAD", "MAX_PIXELS", "SUFFIXES", "Picture", "format_of", "read_picture"]

SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".mpo", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".npy", ".npz"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".avif"),
)
FORMATS = "PNG, JPEG, TIFF, BMP, WebP, GIF, PPM and PGM, JPEG 2000, AVIF, .npy and .npz"
HEAD = 512  # bytes at the beginning of a file that say its format

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
    b"\x93NUMPY": "NPY",
}
_BITMAPS = {struct.pack("<I", size) for size in (12, 40, 52, 56, 64, 108, 124)}  # sizes of a BMP file's second header


def format_of(head: bytes) -> str | None:
    """The format of a file that begins with the bytes `head` (at least `HEAD` of them, or all): "PNG", "NPY", …

    None if it is not a file of images.
    """
    for signature, form in _SIGNATURES.items():
        if head.startswith(signature):
            return form
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return "AVIF"
    if head[:2] == b"BM" and head[14:18] in _BITMAPS:
        return "BMP"
    if re.match(rb"P[1-6f]\s+[#\d-]", head):
        return "PPM"
    if head[:4] == b"PK\3\4":
        (length,) = struct.unpack("<H", head[26:28].ljust(2, b"\0"))
        return "NPZ" if head[30 : 30 + length].endswith(b".npy") else None  # else another kind of ZIP file
    return None


def read_picture(source: Path | BinaryIO, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a file of images, given by its path or open.

    - PNG, JPEG, BMP, WebP, GIF, PPM and PGM, JPEG 2000, AVIF: 8 or 16 bits, gray, colour, palettes, alpha; every frame
      of an animation is an image.
    - TIFF: every page or plane is an image; see `pipeline.data.formats.tiff`.
    - .npy and .npz: see `pipeline.data.formats.arrays`.

    Args:
        max_pixels: in all images of the file together; one that claims more is not decoded.

    Raises:
        PipelineError: the file cannot be read, is too large, or does not hold images of one size and type. The message
            does not name the file.
    """
    try:
        with open_file(source) if isinstance(source, Path) else nullcontext(source) as file:
            form = format_of(file.read(HEAD))
            file.seek(0)
            picture = _reader(form)(file, max_pixels)
    except PipelineError:
        raise
    except Image.DecompressionBombError as error:
        raise PipelineError(f"it has more than {MAX_PIXELS:,} pixels; denoise reads it with --max-pixels N") from error
    except UnidentifiedImageError as error:
        raise PipelineError("it cannot be read: it is damaged or no image") from error
    except OSError as error:
        raise PipelineError(f"it cannot be read: {error.strerror or error}") from error
    except Exception as error:  # what a damaged file makes a decoder raise can be anything
        kind = (
            "" if isinstance(error, ValueError | EOFError | SyntaxError | zipfile.BadZipFile) else type(error).__name__
        )
        raise PipelineError(f"it cannot be read: {kind}{': ' if kind and str(error) else ''}{error}") from error
    if picture.pixels.shape[1] > MAX_CHANNELS:
        raise PipelineError(f"it has {picture.pixels.shape[1]} channels; at most {MAX_CHANNELS} are allowed")
    return picture


def _reader(form: str | None) -> Callable[[BinaryIO, int], Picture]:
    match form:
        case None:
            raise PipelineError(f"it is not in a known image format: {FORMATS}")
        case "NPY":
            return read_npy
        case "NPZ":
            return read_npz
        case "TIFF":
            from pipeline.data.formats.tiff import read_tiff  # the library is slow to import

            return read_tiff
        case _:
            return lambda file, max_pixels: read_by_pillow(file, form, max_pixels)
