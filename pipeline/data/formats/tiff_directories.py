"""Directories of a TIFF file that a tag points to, such as EXIF data: copied entry by entry."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

import tifffile

DIRECTORIES = {34665: "ExifTag", 34853: "GPSTag"}  # what tifffile calls them
_LONG, _LONG8 = 4, 16  # types of tags
_MOST = 1000  # entries
_INTEROPERABILITY = 40965  # points to a directory in which there is nothing but a version


def stored_bytes(tag: tifffile.TiffTag) -> bytes:
    """The value of a tag, as it is in the file."""
    file = tag.parent.filehandle
    file.seek(tag.valueoffset)
    return file.read(tag.valuebytecount)


@dataclass(frozen=True)
class Directory:
    """Its entries, in the byte order of the file: code, type, count and value."""

    code: int  # of the tag that points to it
    entries: tuple[tuple[int, int, int, bytes], ...]

    @classmethod
    def of(cls, tag: tifffile.TiffTag) -> Directory | None:
        """The one that a tag of an open file points to; None if it is damaged."""
        tiff, file = tag.parent.tiff, tag.parent.filehandle
        assert isinstance(tag.parent, tifffile.TiffFile)
        start = tag.valueoffset  # of what it points to, for these tags
        try:
            file.seek(start)
            (count,) = struct.unpack(tiff.tagnoformat, file.read(tiff.tagnosize))
            if count > _MOST:
                return None
            places = [start + tiff.tagnosize + number * tiff.tagsize for number in range(count)]
            tags = [tifffile.TiffTag.fromfile(tag.parent, offset=place) for place in places]
            entries = [(each.code, int(each.dtype), each.count, stored_bytes(each)) for each in tags]
        except (tifffile.TiffFileError, struct.error, ValueError, OSError):
            return None
        return cls(tag.code, tuple(entry for entry in entries if entry[0] != _INTEROPERABILITY))

    def write(self, content: io.BytesIO, tiff: Any) -> tuple[str, int, int, int, bool]:
        """Append it to a file in the making.

        Args:
            content: the file.
            tiff: its kind, as tifffile describes it.

        Returns:
            The tag that points to it, for tifffile to write.
        """
        content.seek(0, io.SEEK_END)
        content.write(b"\0" * (content.tell() % 2))
        start = content.tell()
        values = start + tiff.tagnosize + len(self.entries) * tiff.tagsize + tiff.offsetsize
        table, after = [struct.pack(tiff.tagnoformat, len(self.entries))], b""
        for code, dtype, count, value in self.entries:
            field = value.ljust(tiff.tagoffsetthreshold, b"\0")
            if len(value) > tiff.tagoffsetthreshold:
                field = struct.pack(tiff.offsetformat, values + len(after))
                after += value + b"\0" * (len(value) % 2)
            table.append(struct.pack(tiff.tagformat1, code, dtype) + struct.pack(tiff.tagformat2, count, field))
        content.write(b"".join([*table, struct.pack(tiff.offsetformat, 0), after]))
        return DIRECTORIES[self.code], _LONG8 if tiff.offsetsize > 4 else _LONG, 1, start, True
