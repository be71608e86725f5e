"""The table of image files: every combination of what a file can hold, and which of them a format can hold at all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

FORMATS = {"PNG": "png", "JPEG": "jpg", "TIFF": "tif", "BMP": "bmp", "WEBP": "webp"}  # and their suffixes
DEPTHS = ("8", "16", "32 floats", "32 integers")  # bits; the last is the one that is refused
CHANNELS = ("gray", "gray+alpha", "rgb", "rgba", "palette", "cmyk")
SAID = ("nothing", "icc", "dpi", "gamma", "text", "exif", "xmp", "private", "all")  # besides the pixels


@dataclass(frozen=True)
class Cell:
    """A file."""

    form: str
    depth: str
    channels: str
    by_plane: bool  # else by pixel
    white_is_zero: bool
    orientation: int  # of EXIF, or the tag of TIFF
    has_key: bool  # a PNG chunk tRNS: one colour, or some of a palette, are transparent
    said: str
    is_named_right: bool

    @property
    def samples(self) -> int:
        """Per pixel, in the file."""
        return {"gray": 1, "gray+alpha": 2, "rgb": 3, "rgba": 4, "palette": 1, "cmyk": 4}[self.channels]

    @property
    def suffix(self) -> str:
        """Of its name."""
        return FORMATS[self.form] if self.is_named_right else "png" if self.form == "JPEG" else "jpg"

    def says(self, kind: str) -> bool:
        """Whether it has metadata of this kind."""
        return self.said in (kind, "all") and kind in KINDS[self.form]

    @property
    def is_possible(self) -> bool:
        """Whether the format can hold it."""
        holds = DEPTHS_OF[self.form].get(self.channels, ())
        return (
            self.depth in holds
            and (not self.by_plane or (self.form == "TIFF" and self.samples > 1))
            and (not self.white_is_zero or (self.form == "TIFF" and self.channels in ("gray", "gray+alpha")))
            and (self.orientation == 1 or self.form != "BMP")
            and (not self.has_key or (self.form == "PNG" and self.channels in ("gray", "rgb", "palette")))
            and (self.said in ("nothing", "all") or self.said in KINDS[self.form])
        )


_EIGHT, _DEEP, _ALL = DEPTHS[:1], DEPTHS[:2], DEPTHS
DEPTHS_OF: dict[str, dict[str, tuple[str, ...]]] = {  # which depths a format has, by channels
    "PNG": {"gray": _DEEP, "gray+alpha": _DEEP, "rgb": _DEEP, "rgba": _DEEP, "palette": _EIGHT},
    "JPEG": {"gray": _EIGHT, "rgb": _EIGHT, "cmyk": _EIGHT},
    # The colours of a palette in TIFF have 16 bits, which files of 8 bits do not use.
    "TIFF": dict.fromkeys(("gray", "gray+alpha", "rgb", "rgba"), _ALL) | {"palette": _DEEP, "cmyk": _DEEP},
    "BMP": {"gray": _EIGHT, "rgb": _EIGHT, "rgba": _EIGHT, "palette": _EIGHT},
    "WEBP": {"rgb": _EIGHT, "rgba": _EIGHT},
}
KINDS = {  # of metadata, that a format has; "private" is what only some program understands
    "PNG": ("icc", "dpi", "gamma", "text", "exif", "xmp", "private"),
    "JPEG": ("icc", "dpi", "text", "exif", "xmp", "private"),
    "TIFF": ("icc", "dpi", "gamma", "text", "exif", "xmp", "private"),
    "BMP": ("dpi",),
    "WEBP": ("icc", "exif", "xmp"),
}


def all_cells() -> Iterator[Cell]:
    """The whole product."""
    axes = (FORMATS, DEPTHS, CHANNELS, (False, True), (False, True), (1, 6), (False, True), SAID, (True, False))
    return itertools.starmap(Cell, itertools.product(*axes))
