"""Files for the cells of the table: written, and read back, by libraries alone and nothing of the pipeline."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import tifffile
from cells import Cell
from PIL import Image, ImageCms, PngImagePlugin

HEIGHT, WIDTH, HIDDEN = 18, 25, 6  # pixels; so many at the top are transparent in files with one transparent colour
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><dc:title>Moon</dc:title></x:xmpmeta>'
LENS, MODEL = "Summar 50", "Leica III"
WHITE_POINT, PRIMARIES = (0.3127, 0.329), (0.64, 0.33, 0.3, 0.6, 0.15, 0.06)


@dataclass
class Contents:
    """What a file shows and says."""

    colours: np.ndarray  # [H, W, C] as stored, of their depth; inks for CMYK
    alpha: np.ndarray | None  # [H, W]
    said: dict[str, Any] = field(default_factory=dict)  # by kind of metadata


def picture_of(cell: Cell) -> Contents:
    """The picture of a cell: smooth, the channels different, with transparent places where the cell has them."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    waves = [0.5 + 0.4 * np.sin(0.2 * (count + 1) * x + 0.3 * y + count) for count in range(cell.samples)]
    planes = np.stack(waves, axis=-1)
    if cell.channels == "palette":
        planes = np.stack([0.5 + 0.4 * np.sin(0.2 * y * x / 8 + count) for count in range(3)], axis=-1)
    if cell.depth == "32 floats":
        array = planes.astype(np.float32)
    else:
        white = {"8": 255, "16": 65535, "32 integers": 2**32 - 1}[cell.depth]
        kind = {"8": np.uint8, "16": np.uint16, "32 integers": np.uint32}[cell.depth]
        array = np.rint(planes * white).astype(kind)
    if cell.channels == "palette":
        array = array // (36 if cell.depth == "8" else 36 * 257) * array.dtype.type(36 if cell.depth == "8" else 9251)
    if cell.channels in ("gray+alpha", "rgba"):
        colours, alpha = array[..., :-1], array[..., -1].copy()
        alpha[:HIDDEN, :HIDDEN] = 0
        return Contents(colours, alpha)
    if cell.has_key:
        array[:HIDDEN, :HIDDEN] = KEY
        alpha = np.where((array == np.array(KEY, array.dtype)).all(axis=-1), 0, 255 if cell.depth == "8" else 65535)
        return Contents(array, alpha.astype(array.dtype))
    return Contents(array, None)


KEY = 7  # the transparent colour: darker than all others


def content_of(cell: Cell, picture: Contents) -> bytes:
    """The file of a cell."""
    if cell.form == "BMP" and cell.channels == "rgba":
        return _bmp_with_alpha(picture)
    return {"PNG": _png, "TIFF": _tiff}.get(cell.form, _by_pillow)(cell, picture)


def _bmp_with_alpha(picture: Contents) -> bytes:
    """With the fourth version of the header, which says where alpha is."""
    rows = _interleaved(picture)[::-1, :, [2, 1, 0, 3]].tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, WIDTH, HEIGHT, 1, 32, 3, len(rows), 11811, 5906, 0, 0)
    header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    return struct.pack("<2sIHHI", b"BM", 14 + len(header) + len(rows), 0, 0, 14 + len(header)) + header + rows


def _interleaved(picture: Contents) -> np.ndarray:
    """[H, W, C] with alpha."""
    return picture.colours if picture.alpha is None else np.dstack([picture.colours, picture.alpha])


def _indexed(colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of colours [H, W], and the colours [N, 3]."""
    table, numbers = np.unique(colours.reshape(-1, 3), axis=0, return_inverse=True)
    return numbers.reshape(colours.shape[:2]).astype(np.uint8), table


def _profile(cell: Cell) -> bytes:
    """An ICC profile, for colours of its kind."""
    kinds = {"gray": b"GRAY", "gray+alpha": b"GRAY", "cmyk": b"CMYK"}
    return ICC[:16] + kinds.get(cell.channels, b"RGB ") + ICC[20:]


def _exif(cell: Cell, in_tiff: bool = False) -> Image.Exif:
    exif = Image.Exif()
    if cell.orientation != 1 and not in_tiff:
        exif[0x0112] = cell.orientation
    if cell.says("exif"):
        exif[0x0110] = MODEL
        exif.get_ifd(0x8769)[0xA434] = LENS
    return exif


def _by_pillow(cell: Cell, picture: Contents) -> bytes:
    array = _interleaved(picture)
    options: dict[str, Any] = {"lossless": True, "exact": True} if cell.form == "WEBP" else {"quality": 98}
    if cell.channels == "palette":
        numbers, table = _indexed(picture.colours)
        image = Image.fromarray(numbers, mode="P")
        image.putpalette(table.astype(np.uint8).tobytes())
    else:
        image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
        if cell.channels == "cmyk":
            image = Image.fromarray(array, mode="CMYK")
    exif = _exif(cell)
    options |= {"exif": exif.tobytes()} if len(exif) else {}
    options |= {"icc_profile": _profile(cell)} if cell.says("icc") else {}
    options |= {"dpi": (300, 150)} if cell.says("dpi") else {}
    options |= {"comment": b"Moon"} if cell.says("text") else {}
    options |= {"xmp": XMP} if cell.says("xmp") else {}
    if cell.says("private"):
        options["extra"] = b"\xff\xeb" + struct.pack(">H", 12) + b"JP\0\1secret"
    content = io.BytesIO()
    image.save(content, cell.form, **options)
    return content.getvalue()


def _png(cell: Cell, picture: Contents) -> bytes:
    array = picture.colours if cell.has_key else _interleaved(picture)
    bits, kind = (16, ">u2") if cell.depth == "16" else (8, "u1")
    chunks: list[tuple[bytes, bytes]] = []
    color_type = {"gray": 0, "rgb": 2, "palette": 3, "gray+alpha": 4, "rgba": 6}[cell.channels]
    if cell.says("gamma"):
        numbers = [round(value * 100_000) for value in (*WHITE_POINT, *PRIMARIES)]
        chunks += [(b"gAMA", struct.pack(">I", 55_000)), (b"cHRM", struct.pack(">8I", *numbers))]
    if cell.says("icc"):
        chunks.append((b"iCCP", b"wide\0\0" + zlib.compress(_profile(cell))))
    if color_type == 3:
        array, table = _indexed(picture.colours)
        chunks.append((b"PLTE", table.astype(np.uint8).tobytes()))
        if cell.has_key:
            chunks.append((b"tRNS", np.where((table == KEY).all(axis=1), 0, 255).astype(np.uint8).tobytes()))
    elif cell.has_key:
        chunks.append((b"tRNS", struct.pack(f">{cell.samples}H", *[KEY] * cell.samples)))
    if cell.says("dpi"):
        chunks.append((b"pHYs", struct.pack(">IIB", 11811, 5906, 1)))
    if cell.says("text"):
        chunks.append((b"tEXt", b"Author\0Moon"))
    if cell.says("xmp"):
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP))
    if cell.says("private"):
        chunks.append((b"prVT", b"secret"))
    chunks.append((b"IDAT", zlib.compress(b"".join(b"\0" + row.astype(kind).tobytes() for row in array))))
    exif = _exif(cell)
    if len(exif):  # after the pixels, which is allowed
        chunks.append((b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, color_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def _tiff(cell: Cell, picture: Contents) -> bytes:
    array = _interleaved(picture)
    options: dict[str, Any] = {"photometric": {"rgba": "rgb", "cmyk": "separated"}.get(cell.channels, cell.channels)}
    if cell.channels.startswith("gray"):
        options["photometric"] = "miniswhite" if cell.white_is_zero else "minisblack"
    if cell.white_is_zero:
        colours = 1 - picture.colours if cell.depth == "32 floats" else ~picture.colours
        array = colours if picture.alpha is None else np.dstack([colours, picture.alpha])
    if picture.alpha is not None:
        options["extrasamples"] = ["unassalpha"]
    if cell.channels == "palette":
        array, table = _indexed(picture.colours)
        colormap = np.zeros((3, 256), np.uint16)
        colormap[:, : len(table)] = table.T.astype(np.uint16) * (257 if cell.depth == "8" else 1)
        options["colormap"] = colormap
    elif array.shape[2] == 1:
        array = array[..., 0]
    elif cell.by_plane:
        array = np.ascontiguousarray(np.moveaxis(array, -1, 0))
    if array.ndim == 3:
        options["planarconfig"] = "separate" if cell.by_plane else "contig"
    tags: list[tuple[Any, ...]] = [(274, 3, 1, cell.orientation, True)] if cell.orientation != 1 else []
    if cell.says("gamma"):
        for code, values in ((318, WHITE_POINT), (319, PRIMARIES)):
            numbers = [
                number for value in values for number in Fraction(value).limit_denominator(10_000).as_integer_ratio()
            ]
            tags.append((code, 5, len(values), tuple(numbers), True))
    if cell.says("text"):
        tags.append((315, 2, 0, "Moon", True))
        options["description"] = "over the sea"
    if cell.says("xmp"):
        tags.append((700, 1, len(XMP), XMP, True))
    if cell.says("private"):
        tags.append((65000, 2, 0, "secret", True))
    if cell.says("exif"):
        tags += [(272, 2, 0, MODEL, True), ("ExifTag", 4, 1, 0, True)]
    options |= {"resolution": (300, 150), "resolutionunit": 2} if cell.says("dpi") else {}
    options |= {"iccprofile": _profile(cell)} if cell.says("icc") else {}
    content = io.BytesIO()
    tifffile.imwrite(content, array, metadata=None, software=False, extratags=tags, **options)
    if cell.says("exif"):  # a second directory at the end, with one entry
        end = len(content.getvalue()) + len(content.getvalue()) % 2
        text = LENS.encode() + b"\0"
        entry = struct.pack("<HHHIII", 1, 0xA434, 2, len(text), end + 18, 0)
        pointers = [struct.pack("<HHII", 34665, 4, 1, offset) for offset in (0, end)]
        assert content.getvalue().count(pointers[0]) == 1
        return content.getvalue().replace(pointers[0], pointers[1]).ljust(end, b"\0") + entry + text
    return content.getvalue()


def read_back(content: bytes, form: str) -> Contents:
    """What a file shows and says, as other programs see it.

    Raises:
        AssertionError: it is in another format.
    """
    return _read_tiff(content) if form == "TIFF" else _read_by_others(content, form)


def _read_tiff(content: bytes) -> Contents:
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages.first
        array, tags = page.asarray(), page.tags
        if page.planarconfig == 2 and array.ndim == 3:
            array = np.moveaxis(array, 0, -1)
        array = array[..., np.newaxis] if array.ndim == 2 else array
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            assert page.colormap is not None
            array = (page.colormap.T >> 8).astype(np.uint8)[array[..., 0]]
        colours, alpha = (array[..., :-1], array[..., -1]) if page.extrasamples else (array, None)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            colours = 1 - colours if colours.dtype.kind == "f" else ~colours
        said = {
            "icc": tags.valueof(34675),
            "dpi": tuple(Fraction(*tags.valueof(code, (0, 1))) for code in (282, 283)),
            "gamma": (tags.valueof(318), tags.valueof(319)),
            "text": (tags.valueof(315), tags.valueof(270)),
            "exif": (tags.valueof(272), (tags.valueof(34665) or {}).get("LensModel")),
            "xmp": tags.valueof(700),
            "private": tags.valueof(65000),
            "orientation": tags.valueof(274, 1),
        }
    return Contents(colours, alpha, said)


def _read_by_others(content: bytes, form: str) -> Contents:
    """Pixels by OpenCV where they may have 16 bits, else by Pillow; metadata by Pillow."""
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == form
        image.load()
        array = np.asarray(
            image.convert("RGBA" if "transparency" in image.info else "RGB") if image.mode == "P" else image
        )
        has_alpha = image.mode in ("LA", "RGBA") or "transparency" in image.info
        exif = image.getexif()
        said = {
            "icc": image.info.get("icc_profile"),
            "dpi": tuple(round(float(value)) for value in image.info.get("dpi", ())),
            "gamma": (image.info.get("gamma"), image.info.get("chromaticity")),
            "text": image.info.get("comment", image.info.get("Author")),
            "exif": (exif.get(0x0110), exif.get_ifd(0x8769).get(0xA434)),
            "xmp": image.info.get("xmp"),
            "private": b"secret" in content or None,
            "orientation": exif.get(0x0112, 1),
        }
        mode = image.mode
        is_deep = form == "PNG" and content[24] == 16
    if is_deep:
        found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert found is not None
        array = found if found.ndim == 2 else found[..., [2, 1, 0, 3][: found.shape[2]]]
        if mode == "LA" or content[25] == 4:
            array = array[..., [0, 3]]  # OpenCV makes colours of it
            has_alpha = True
    array = array[..., np.newaxis] if array.ndim == 2 else array
    if has_alpha and array.shape[2] in (2, 4):
        return Contents(array[..., :-1], array[..., -1], said)
    return Contents(array, None, said)


assert PngImagePlugin  # Pillow's reader, which is imported late otherwise
