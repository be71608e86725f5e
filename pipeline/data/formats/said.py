"""What PNG and JPEG files say besides the pixels: written back byte for byte, or named as left out."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image

PNG_START = b"\x89PNG\r\n\x1a\n"
_HEADER = len(PNG_START) + 25  # bytes, with the chunk IHDR

# Chunks on what colours mean, which stay true ...
_OF_COLOURS = {b"cHRM", b"gAMA", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI"}
# ... and chunks on how the pixels were stored, which are written anew or are true no more.
_OF_STORAGE = {
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT"),
    *(b"sBIT", b"bKGD", b"hIST", b"sPLT", b"tIME", b"iDOT"),
}
_SAFE_TO_COPY = 0x20  # bit of the last letter of a chunk's name, see the PNG specification, 5.4

_MARKERS = {"APP1": 0xE1, "APP2": 0xE2, "APP13": 0xED, "COM": 0xFE}
_KEPT = (
    ("APP1", b""),  # EXIF and XMP
    ("APP2", b"ICC_PROFILE\0"),
    ("APP13", b"Photoshop"),  # with captions after IPTC
    ("COM", b""),
)
_OF_CODING = (("APP0", b"JF"), ("APP14", b"Adobe"), ("APP2", b"MPF\0"))


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def kept_chunks(file: BinaryIO) -> tuple[bytes, tuple[str, ...]]:
    """Of a PNG file that can be read: the chunks to write back, as they are, and the names of what is left out."""
    kept, left_out = [], []
    for name, data in _chunks(file):
        if name in _OF_COLOURS or (name not in _OF_STORAGE and name[3] & _SAFE_TO_COPY):
            kept.append(chunk(name, data))
        elif name not in _OF_STORAGE:
            left_out.append(f"its chunk {name.decode('latin-1')}")
    return b"".join(kept), tuple(left_out)


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG file, without those of pixels."""
    file.seek(len(PNG_START))
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name in (b"IDAT", b"fdAT"):
            file.seek(length + 4, 1)
        else:
            yield name, file.read(length)
            file.seek(4, 1)
        if name == b"IEND":
            return


def with_chunks(png: bytes, kept: bytes) -> bytes:
    """A PNG file with more chunks."""
    return png[:_HEADER] + kept + png[_HEADER:] if kept else png


def kept_segments(image: Image.Image) -> tuple[bytes, tuple[str, ...]]:
    """Of a JPEG file that Pillow has opened: the segments to write back, and the names of what is left out."""
    kept, left_out = [], []
    for name, data in getattr(image, "applist", []):
        if any(name == marker and data.startswith(start) for marker, start in _KEPT):
            kept.append(struct.pack(">BBH", 0xFF, _MARKERS[name], len(data) + 2) + data)
        elif not any(name == marker and data.startswith(start) for marker, start in _OF_CODING):
            left_out.append(f"its segment {name}")
    if getattr(image, "n_frames", 1) > 1:
        left_out.append("other images in it")
    return b"".join(kept), tuple(dict.fromkeys(left_out))
