"""What files say besides the pixels is written back, or named as left out."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_image_files import COLOUR, DEEP, GRAY, chunk

from pipeline.data.image_files import read_picture


def again(content: bytes) -> tuple[bytes, tuple[str, ...]]:
    """A file written back, and what it says is left out."""
    picture = read_picture(io.BytesIO(content))
    return picture.encode(picture.pixels), picture.left_out


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def test_chunks_of_png_follow_their_own_rule() -> None:
    png = saved(Image.fromarray(COLOUR), "PNG")
    chunks = {b"safe": b"1", b"gAMA": struct.pack(">I", 55_000), b"sRGB": b"\0", b"unSF": b"2", b"iDOT": b"3"}
    content = png[:33] + b"".join(chunk(name, data) for name, data in chunks.items()) + png[33:]
    copy, left_out = again(content)
    assert left_out == ("its chunk unSF",)
    for name, data in chunks.items():
        assert (chunk(name, data) in copy) == (name in (b"safe", b"gAMA", b"sRGB")), name


def test_segments_of_jpeg_stay_in_their_order_however_many() -> None:
    segments = [
        (0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + bytes(60_000)),
        (0xE1, b"Exif\0\0" + bytes(60_000)),  # too much for one
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
        (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(50_000)),
        (0xE2, b"ICC_PROFILE\0\1\2first"),
        (0xE2, b"ICC_PROFILE\0\2\2second"),
        (0xED, b"Photoshop 3.0\0caption"),
        (0xFE, b"one comment"),
        (0xFE, b"another"),
    ]
    bytes_of = [struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data for marker, data in segments]
    jpeg = saved(Image.fromarray(COLOUR), "JPEG")
    copy, left_out = again(jpeg[:20] + b"".join(bytes_of) + b"\xff\xeb\0\6ab\0\1" + jpeg[20:])
    assert left_out == ("its segment APP11",)
    assert b"".join(bytes_of) in copy
    mpo = saved(Image.fromarray(COLOUR), "MPO", save_all=True, append_images=[Image.fromarray(COLOUR[::2, ::2])])
    copy, left_out = again(mpo)
    assert left_out == ("other images in it",)
    assert b"MPF\0" not in copy


def test_formats_that_pillow_cannot_write_it_to_say_so(tmp_path: Path) -> None:
    image = Image.fromarray(COLOUR)
    bitmap = saved(image, "BMP")
    header = struct.pack("<IiiHHIIiiII", 124, 50, 40, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(16) + b"DEBM" + bytes(64)
    pixels = bitmap[54:]
    assert again(struct.pack("<2sIHHI", b"BM", 0, 0, 0, 138) + header + pixels)[1] == ("ICC profile",)
    for form in ("AVIF", "WEBP"):
        copy, left_out = again(saved(image, form, icc_profile=b"profile", xmp=b"<x/>"))
        assert left_out == ()
        with Image.open(io.BytesIO(copy)) as found:
            assert (found.info["icc_profile"], found.info["xmp"]) == (b"profile", b"<x/>")
    copy, left_out = again(saved(image.convert("P"), "GIF", comment=b"words"))
    assert left_out == ()
    with Image.open(io.BytesIO(copy)) as found:
        assert found.info["comment"] == b"words"
    wide = saved(image, "JPEG2000")
    assert again(wide)[1] == ()
    assert again(wide.replace(b"colr\1", b"colr\2"))[1] == ("ICC profile",)


def test_a_bitmap_has_no_transparency_unless_it_differs() -> None:
    """Many programs fill the fourth byte with 0 or 255 and mean nothing by it."""
    for alpha, is_meant in ((0, False), (255, False), (np.arange(50), True)):
        array = np.dstack([COLOUR[::-1, :, ::-1], np.broadcast_to(alpha, GRAY.shape).astype(np.uint8)])
        header = struct.pack("<IiiHHIIiiII", 108, 50, 40, 1, 32, 3, array.nbytes, 0, 0, 0, 0)
        header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
        picture = read_picture(io.BytesIO(struct.pack("<2sIHHI", b"BM", 0, 0, 0, 122) + header + array.tobytes()))
        np.testing.assert_array_equal(picture.pixels[0], COLOUR.transpose(2, 0, 1))
        assert (picture.alpha is not None) == is_meant
        if is_meant:
            with pytest.raises(Exception, match="its transparency would be lost; convert it to PNG first"):
                picture.encode(picture.pixels)


def test_a_palette_of_grays_with_a_profile_for_colours_stays_in_colour() -> None:
    gray = Image.fromarray(GRAY).convert("P")
    assert read_picture(io.BytesIO(saved(gray, "PNG"))).pixels.shape[1] == 1
    assert read_picture(io.BytesIO(saved(gray, "PNG", icc_profile=b"profile"))).pixels.shape[1] == 3


def with_exif(options: dict[str, Any]) -> bytes:
    """A TIFF file of two pages with EXIF data on the first: one number that fits into its entry, and a text."""
    order, is_big = options.get("byteorder", "<"), options.get("bigtiff", False)
    content = io.BytesIO()
    with tifffile.TiffWriter(content, **options) as file:
        file.write(DEEP[..., 0], metadata=None, extratags=[("ExifTag", 16 if is_big else 4, 1, 0, True)])
        file.write(DEEP[..., 1], metadata=None)
    end = len(content.getvalue()) + len(content.getvalue()) % 2
    text = b"Summar 50 mm, f/2\0"
    entry, number, count = (">" if order == ">" else "<") + ("HHQQ" if is_big else "HHII"), "Q" if is_big else "I", 2
    head = struct.pack(f"{order}{'Q' if is_big else 'H'}", count)
    after = end + len(head) + 2 * struct.calcsize(entry) + struct.calcsize(number)
    iso = struct.pack(f"{order}HH{number}H", 34855, 3, 1, 400).ljust(struct.calcsize(entry), b"\0")
    lens = struct.pack(entry, 0xA434, 2, len(text), after)
    pointers = [struct.pack(entry, 34665, 16 if is_big else 4, 1, offset) for offset in (0, end)]
    assert content.getvalue().count(pointers[0]) == 1
    directory = head + iso + lens + struct.pack(f"{order}{number}", 0) + text
    return content.getvalue().replace(pointers[0], pointers[1]).ljust(end, b"\0") + directory


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}, {"bigtiff": True, "byteorder": ">"}])
def test_exif_data_of_tiff_are_copied(options: dict[str, Any]) -> None:
    content = with_exif(options)
    copy, left_out = again(content)
    assert left_out == ()
    for data in (content, copy, again(copy)[0]):
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            exif = file.pages.first.tags.valueof(34665)
            assert (exif["LensModel"], exif["ISOSpeedRatings"]) == ("Summar 50 mm, f/2", 400)
            np.testing.assert_array_equal(file.asarray(), DEEP[..., :2].transpose(2, 0, 1))
    cut = content[: content.rindex(b"Summar")]  # damaged: told, and the pixels are still there
    assert again(cut)[1] == ("its tag 34665 (ExifTag)",)


def test_what_tiff_files_cannot_keep_is_named() -> None:
    content = io.BytesIO()
    with tifffile.TiffWriter(content) as file:
        tags = [(65000, 2, 0, "mine", True), (37724, 7, 20, bytes(20), True), (33550, 12, 3, (0.5, 0.5, 0.0), True)]
        file.write(GRAY, subifds=1, metadata=None, extratags=tags)
        file.write(GRAY[::2, ::2], subfiletype=1, metadata=None)
    assert again(content.getvalue())[1] == ("smaller copies in it", "its tag 37724 (ImageSourceData)", "its tag 65000")
    content = io.BytesIO()
    with tifffile.TiffWriter(content) as file:
        file.write(GRAY, metadata=None)
        file.write(GRAY[::2, ::2], subfiletype=1, metadata=None)
    assert again(content.getvalue())[1] == ("smaller copies in it",)
    numbers: list[Any] = [(286, 5, 1, (3, 2), True), (318, 5, 2, (3127, 10000, 329, 1000), True)]
    content = io.BytesIO()
    tifffile.imwrite(content, GRAY, metadata=None, extratags=numbers)
    copy, left_out = again(content.getvalue())
    assert left_out == ()
    with tifffile.TiffFile(io.BytesIO(copy)) as read:
        for code, _, count, value, _ in numbers:
            assert (read.pages.first.tags[code].count, read.pages.first.tags.valueof(code)) == (count, value)


def test_alpha_of_a_file_where_white_is_zero_is_what_it_is() -> None:
    content = io.BytesIO()
    options: dict[str, Any] = {"photometric": "miniswhite", "extrasamples": ["unassalpha"], "planarconfig": "contig"}
    tifffile.imwrite(content, np.dstack([~GRAY, GRAY]), **options)
    picture = read_picture(io.BytesIO(content.getvalue()))
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.pixels[0, 0], GRAY)
    np.testing.assert_array_equal(picture.alpha[0], GRAY)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(picture.encode(picture.pixels))), np.dstack([~GRAY, GRAY]))


def test_colours_of_a_palette_keep_their_bits() -> None:
    table = np.random.default_rng(0).integers(0, 65536, (3, 256), dtype=np.uint16)
    for colormap, kind in ((table, np.uint16), (table >> 8 << 8, np.uint8), ((table >> 8) * 257, np.uint8)):
        content = io.BytesIO()
        tifffile.imwrite(content, GRAY, photometric="palette", colormap=colormap.astype(np.uint16))
        pixels = read_picture(io.BytesIO(content.getvalue())).pixels
        wanted = colormap if kind == np.uint16 else colormap >> 8
        assert pixels.dtype == kind
        np.testing.assert_array_equal(pixels[0], wanted[:, GRAY])


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("options", [{"loop": 0}, {"loop": 3}, {}])
def test_an_animation_keeps_its_times_and_how_often_it_plays(form: str, options: dict[str, int]) -> None:
    frames = [Image.fromarray(np.roll(COLOUR, number, axis=0)) for number in range(3)]
    content = io.BytesIO()
    frames[0].save(content, form, save_all=True, append_images=frames[1:], duration=[50, 100, 150], **options)
    content.seek(0)
    picture = read_picture(content)
    times = []
    with Image.open(content) as before, Image.open(io.BytesIO(picture.encode(picture.pixels))) as after:
        for number in range(3):
            for image in (before, after):
                image.seek(number)
                image.load()
                times.append(image.info["duration"])
        assert times == [50, 50, 100, 100, 150, 150]
        assert after.info.get("loop") == before.info.get("loop")  # a GIF file that does not say it plays once


def test_gray_levels_where_there_were_fewer_are_said() -> None:
    bits = Image.fromarray(GRAY > 99)
    said = "1 bit per pixel (it has 8, for gray levels)"
    for form in ("PNG", "TIFF", "BMP", "PPM"):
        copy, left_out = again(saved(bits, form))
        assert left_out == (said,), form
        with Image.open(io.BytesIO(copy)) as image:
            assert image.mode == "L"
    assert again(saved(bits, "TIFF", compression="group4"))[1] == (said,)
    rows = b"".join(b"\0" + bytes(25) for _ in range(40))
    parts = [struct.pack(">IIBBBBB", 50, 40, 4, 0, 0, 0, 0), zlib.compress(rows), b""]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, (b"IHDR", b"IDAT", b"IEND"), parts))
    assert again(png)[1] == ("4 bits per pixel (it has 8, for gray levels)",)
    assert again(saved(Image.fromarray(GRAY), "PNG"))[1] == ()
