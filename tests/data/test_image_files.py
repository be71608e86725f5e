"""Files of images of every format but TIFF: read whatever their names are, and written back as what they were."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from conftest import PROJECT
from PIL import Image, ImageOps

from pipeline.data.formats.picture import stored, turned
from pipeline.data.image_files import FORMATS, Picture, read_picture
from pipeline.errors import PipelineError

RANDOM = np.random.default_rng(0)
GRAY = RANDOM.integers(0, 256, (40, 50), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (40, 50, 3), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (40, 50, 4), dtype=np.uint16)


def saved(path: Path, array: np.ndarray, **options: Any) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def again(path: Path) -> tuple[Picture, Picture]:
    """What is in the file, and what is in its copy."""
    picture = read_picture(path)
    copy = path.with_name("copy")
    copy.write_bytes(picture.encode(picture.pixels))
    return picture, read_picture(copy)


def planes(array: np.ndarray) -> np.ndarray:
    """[H, W] or [H, W, C] as [C, H, W]."""
    return array[np.newaxis] if array.ndim == 2 else array.transpose(2, 0, 1)


def deep_png(array: np.ndarray, *chunks: bytes, interlaced: bool = False) -> bytes:
    """A PNG file with 16 bits, of [H, W, C], with no filter."""
    height, width, channels = array.shape

    def rows(part: np.ndarray) -> bytes:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in part) if part.size else b""

    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    data = b"".join(rows(array[top::down, left::across]) for top, left, down, across in passes)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, interlaced)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("form", ["PNG", "BMP", "WEBP", "PPM", "JPEG2000", "GIF"])
def test_formats_without_loss_keep_every_pixel_whatever_the_name(form: str, tmp_path: Path) -> None:
    for array in (GRAY, COLOUR):
        if (form, array.ndim) == ("GIF", 3):
            continue  # it holds 256 colours only
        options = {"lossless": True} if form == "WEBP" else {}
        picture, copy = again(saved(tmp_path / "picture.jpg", array, format=form, **options))
        wanted = planes(array)[np.newaxis]
        if form == "WEBP":  # which knows no gray
            wanted = np.broadcast_to(wanted, (1, 3, 40, 50))
        assert picture.format == copy.format == form
        np.testing.assert_array_equal(picture.pixels, wanted)
        np.testing.assert_array_equal(copy.pixels, wanted)


def test_lossy_formats_come_back_close(tmp_path: Path) -> None:
    smooth = np.asarray(Image.fromarray(COLOUR).resize((10, 8)).resize((50, 40)))
    for form in ("JPEG", "AVIF"):
        picture, copy = again(saved(tmp_path / "picture", smooth, format=form))
        assert picture.format == copy.format == form
        assert np.abs(picture.pixels.astype(int) - copy.pixels).mean() < 2


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_keep_all_of_them(channels: int, interlaced: bool, tmp_path: Path) -> None:
    (tmp_path / "deep.jpg").write_bytes(deep_png(DEEP[..., :channels], interlaced=interlaced))
    for picture in again(tmp_path / "deep.jpg"):
        colours = channels - (channels in (2, 4))
        assert (picture.format, picture.pixels.dtype) == ("PNG", np.uint16)
        np.testing.assert_array_equal(picture.pixels[0], planes(DEEP)[:colours])
        if colours < channels:
            assert picture.alpha is not None
            np.testing.assert_array_equal(picture.alpha[0], DEEP[..., colours])


def test_sixteen_bits_keep_the_profile_the_resolution_and_the_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    chunks = [
        chunk(b"iCCP", b"wide\0\0" + zlib.compress(b"profile")),
        chunk(b"pHYs", struct.pack(">IIB", 11811, 11811, 1)),
        chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")),
    ]
    (tmp_path / "icc.png").write_bytes(deep_png(DEEP[..., :3], *chunks))
    for picture in again(tmp_path / "icc.png"):
        assert picture.orientation == 6
        np.testing.assert_array_equal(picture.upright[0], np.rot90(planes(DEEP)[:3], -1, axes=(1, 2)))
    with Image.open(tmp_path / "copy") as image:
        assert image.info["icc_profile"] == b"profile"
        assert [round(number) for number in image.info["dpi"]] == [300, 300]


def test_one_transparent_colour_becomes_alpha(tmp_path: Path) -> None:
    gray, colour = GRAY | 1, COLOUR | 1
    gray[:10, :10] = 8
    colour[:10, :10] = (8, 2, 4)
    deep = DEEP[..., :3] | 1
    deep[:10, :10] = (8, 2, 4)
    key = chunk(b"tRNS", struct.pack(">HHH", 8, 2, 4))
    (tmp_path / "deep.png").write_bytes(deep_png(deep, key))
    (tmp_path / "deepgray.png").write_bytes(deep_png(deep[..., :1], chunk(b"tRNS", struct.pack(">H", 8))))
    saved(tmp_path / "gray.png", gray, transparency=8)
    saved(tmp_path / "colour.png", colour, transparency=(8, 2, 4))
    few = (gray // 64).clip(1)
    few[:10, :10] = 0
    levels = b"".join(b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, -2:].ravel()).tobytes() for row in few)
    parts = [struct.pack(">IIBBBBB", 50, 40, 2, 0, 0, 0, 0), b"\0\0", zlib.compress(levels), b""]
    chunks = map(chunk, (b"IHDR", b"tRNS", b"IDAT", b"IEND"), parts)
    (tmp_path / "twobits.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    for name in ("deep.png", "deepgray.png", "gray.png", "colour.png", "twobits.png"):
        for picture in again(tmp_path / name):
            assert picture.alpha is not None, name
            assert set(np.unique(picture.alpha)) == {0, np.iinfo(picture.pixels.dtype).max}
            assert (picture.alpha[0, :10, :10] == 0).all()
            assert (picture.alpha == 0).sum() == 100, name


def test_palettes_and_bits_become_colours(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).quantize(16).save(tmp_path / "colours.png")
    assert read_picture(tmp_path / "colours.png").pixels.shape == (1, 3, 40, 50)
    Image.fromarray(GRAY).convert("P").save(tmp_path / "grays.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "grays.png").pixels[0, 0], GRAY)
    Image.fromarray(GRAY > 99).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "bits.png").pixels[0, 0], (GRAY > 99) * 255)


def test_every_frame_of_an_animation_is_an_image(tmp_path: Path) -> None:
    frames = [Image.fromarray(COLOUR), Image.fromarray(COLOUR[::-1])]
    for form, options in {"PNG": {}, "WEBP": {"lossless": True}}.items():
        frames[0].save(tmp_path / "x", form, save_all=True, append_images=frames[1:], duration=[70, 90], **options)
        for picture in again(tmp_path / "x"):
            np.testing.assert_array_equal(picture.pixels[0], planes(COLOUR))
            np.testing.assert_array_equal(picture.pixels[1], planes(COLOUR[::-1]))
    gray = [Image.fromarray(GRAY), Image.fromarray(GRAY[::-1])]
    gray[0].save(tmp_path / "x.gif", save_all=True, append_images=gray[1:], duration=[70, 90])
    for picture in again(tmp_path / "x.gif"):
        assert len(picture.pixels) == 2
    # The first image of an animated PNG file may be no part of the animation.
    more: dict[str, Any] = {
        "save_all": True,
        "append_images": [*frames, frames[0]],
        "duration": [50, 70, 90],
        "default_image": True,
    }
    Image.fromarray(COLOUR[:, ::-1]).save(tmp_path / "x", "PNG", **more)
    again(tmp_path / "x")
    with Image.open(tmp_path / "copy") as image:
        assert image.info["default_image"]
        durations = []
        for number in range(1, 4):
            image.seek(number)
            durations.append(image.info["duration"])
        assert durations == [50, 70, 90]
    # But a photograph with a preview in it is one image.
    gray[0].save(tmp_path / "x.mpo", "MPO", save_all=True, append_images=[gray[1].resize((20, 10))])
    assert [picture.pixels.shape for picture in again(tmp_path / "x.mpo")] == [(1, 1, 40, 50)] * 2


def test_upright_is_as_pillow_turns_it() -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = io.BytesIO()
        Image.fromarray(COLOUR).save(content, "PNG", exif=exif)
        wanted = planes(np.asarray(ImageOps.exif_transpose(Image.open(content))))
        np.testing.assert_array_equal(turned(planes(COLOUR), orientation), wanted)
        np.testing.assert_array_equal(stored(wanted, orientation), planes(COLOUR))


def test_inks_are_seen_as_colours_and_what_is_hidden_is_not_seen(tmp_path: Path) -> None:
    inks = Image.fromarray(RANDOM.integers(0, 256, (40, 50, 4), dtype=np.uint8), mode="CMYK")
    inks.save(tmp_path / "x.tif")
    picture = read_picture(tmp_path / "x.tif")
    assert picture.pixels.shape == (1, 4, 40, 50)
    difference = picture.upright[0].astype(int) - planes(np.asarray(inks.convert("RGB")))
    assert np.abs(difference).max() <= 1
    inks.save(tmp_path / "x.jpg")
    assert read_picture(tmp_path / "x.jpg").upright.shape == (1, 3, 40, 50)
    alpha = np.zeros((40, 50), np.uint8)
    alpha[:, 7] = 255
    saved(tmp_path / "x.png", np.dstack([np.where(alpha == 0, 200, 10).astype(np.uint8), alpha]))
    assert (read_picture(tmp_path / "x.png").upright == 10).all()


def test_what_would_be_cut_to_eight_bits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.ppm").write_bytes(b"P6 50 40 65535\n" + DEEP[..., :3].astype(">u2").tobytes())
    with pytest.raises(PipelineError, match="it has more than 8 bits per colour, which can be read from PNG and TIFF"):
        read_picture(tmp_path / "deep.ppm")
    avif = bytearray(saved(tmp_path / "x", COLOUR, format="AVIF").read_bytes())
    avif[avif.index(b"av1C") + 6] |= 0x40  # 10 bits, here ...
    at = avif.index(b"pixi") + 9
    avif[at : at + 3] = b"\x0a\x0a\x0a"  # ... and there
    with pytest.raises(PipelineError, match="it has more than 8 bits per colour, which can be read from PNG and TIFF"):
        read_picture(io.BytesIO(avif))
    for form in ("PPM", "JPEG2000"):
        for picture in again(saved(tmp_path / "gray", DEEP[..., 0], format=form)):
            np.testing.assert_array_equal(picture.pixels[0, 0], DEEP[..., 0])


@pytest.mark.parametrize(
    ("shape", "images"),
    [
        ((40, 50), (1, 1, 40, 50)),
        ((40, 50, 1), (1, 1, 40, 50)),
        ((40, 50, 3), (1, 3, 40, 50)),
        ((40, 50, 8), (1, 8, 40, 50)),
        ((3, 40, 50), (1, 3, 40, 50)),
        ((1, 40, 50), (1, 1, 40, 50)),
        ((6, 40, 50), (6, 1, 40, 50)),
        ((60, 28, 20), (60, 1, 28, 20)),
        ((6, 3, 40, 50), (6, 3, 40, 50)),
        ((6, 40, 50, 3), (6, 3, 40, 50)),
        ((6, 64, 70, 80), (6, 64, 70, 80)),
        ((6, 70, 80, 64), (6, 64, 70, 80)),
        ((5, 20, 30, 20), (5, 20, 30, 20)),
    ],
)
def test_the_axes_of_an_array_follow_from_its_sizes(
    shape: tuple[int, ...], images: tuple[int, ...], tmp_path: Path
) -> None:
    for dtype in (np.uint8, ">u2", np.float64, np.float16):
        array = RANDOM.integers(0, 256, shape).astype(dtype)
        np.save(tmp_path / "x.npy", array)
        picture = read_picture(tmp_path / "x.npy")
        assert picture.pixels.shape == images
        assert picture.pixels.dtype == {"u": np.dtype(dtype).newbyteorder("="), "f": np.float32}[np.dtype(dtype).kind]
        (tmp_path / "copy.npy").write_bytes(picture.encode(picture.pixels))
        copy = np.load(tmp_path / "copy.npy")
        assert copy.dtype == array.dtype
        np.testing.assert_array_equal(copy, array)


def test_four_channels_that_come_last_have_alpha(tmp_path: Path) -> None:
    for shape in ((40, 50, 4), (2, 40, 50, 4)):
        array = RANDOM.integers(0, 256, shape, dtype=np.uint8)
        np.save(tmp_path / "x.npy", array)
        picture = read_picture(tmp_path / "x.npy")
        assert picture.alpha is not None
        np.testing.assert_array_equal(picture.alpha.reshape(shape[:-1]), array[..., 3])
        np.testing.assert_array_equal(picture.pixels.shape, (len(picture.alpha), 3, 40, 50))
        (tmp_path / "copy.npy").write_bytes(picture.encode(picture.pixels))
        np.testing.assert_array_equal(np.load(tmp_path / "copy.npy"), array)


def test_an_archive_is_all_of_its_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "x", b=np.stack([GRAY, GRAY[::-1]]), c=GRAY[np.newaxis, np.newaxis], first=GRAY)
    picture, copy = again(tmp_path / "x.npz")
    assert picture.pixels.shape == (4, 1, 40, 50)
    np.testing.assert_array_equal(picture.pixels, copy.pixels)
    with np.load(tmp_path / "copy") as archive:
        assert {name: archive[name].shape for name in archive.files} == {
            "b": (2, 40, 50),
            "c": (1, 1, 40, 50),
            "first": (40, 50),
        }
    np.savez_compressed(tmp_path / "mixed", a=GRAY, b=GRAY.astype(np.uint16))
    with pytest.raises(PipelineError, match=r"its arrays differ: 'a' holds 40x50 .* as uint8, 'b' holds .* as uint16"):
        read_picture(tmp_path / "mixed.npz")


def test_a_small_file_does_not_fill_the_memory(tmp_path: Path) -> None:
    """What it claims is compared with the limit before anything is decoded."""
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (200000, 200000), }".ljust(117) + b"\n"
    npy = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header
    (tmp_path / "x.npy").write_bytes(npy)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy)
    tifffile.imwrite(tmp_path / "x.tif", GRAY)
    with tifffile.TiffFile(tmp_path / "x.tif", mode="r+") as file:
        for tag in ("ImageLength", "ImageWidth", "RowsPerStrip"):
            file.pages.first.tags[tag].overwrite(200_000)
    image = Image.fromarray(GRAY)
    image.save(
        tmp_path / "x.gif",
        save_all=True,
        append_images=[Image.fromarray(GRAY + np.uint8(count)) for count in range(1, 10)],
    )
    for name, limit in (("x.npy", 2**30), ("x.npz", 2**30), ("x.tif", 2**30), ("x.gif", 19_999)):
        with pytest.raises(PipelineError, match=r"has [\d,]+ pixels, and more than [\d,]+ are not read; denoise reads"):
            read_picture(tmp_path / name, limit)
    assert len(read_picture(tmp_path / "x.gif", 20_000).pixels) == 10
    np.savez(tmp_path / "two.npz", a=GRAY, b=GRAY)
    with pytest.raises(PipelineError, match="its array 'b' has 2,000 pixels, and more than 1,000 are not read"):
        read_picture(tmp_path / "two.npz", 3000)
    colours = planes(COLOUR)[np.newaxis].repeat(2, axis=0)
    tifffile.imwrite(tmp_path / "planes.tif", colours, photometric="rgb", planarconfig="separate")
    assert len(read_picture(tmp_path / "planes.tif", 4000).pixels) == 2
    with pytest.raises(PipelineError, match="it has 4,000 pixels"):
        read_picture(tmp_path / "planes.tif", 3999)


def test_what_pillow_reads_by_another_program_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("x.eps", "x.png"):
        (tmp_path / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
        with pytest.raises(PipelineError, match="it is not in a known image format"):
            read_picture(tmp_path / name)
    assert not (tmp_path / "started").exists()


def test_the_page_lists_the_formats_that_are_read() -> None:
    page = (PROJECT / "docs" / "own-images.md").read_text().replace("`", "").replace("\n", " ")
    assert f"{FORMATS}, and no others" in page


def test_every_bad_file_says_what_is_wrong(tmp_path: Path) -> None:
    def said(name: str, content: bytes | np.ndarray | dict[str, Any]) -> str:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, dict):
            np.savez(path, **content)
        else:
            np.save(path, content)
        with pytest.raises(PipelineError) as error:
            read_picture(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    png = saved(tmp_path / "good.png", COLOUR).read_bytes()
    npy = io.BytesIO()
    np.save(npy, GRAY)
    assert "it is not in a known image format" in said("x.png", b"no image")
    assert "it is not in a known image format" in said("x.png", b"")
    assert "it cannot be read" in said("x.png", png[:500])
    assert "it cannot be read" in said("x.png", png[:20])
    assert "it cannot be read" in said("x.npy", npy.getvalue()[:500])
    assert "it cannot be read" in said("x.npy", npy.getvalue()[:20])
    header = chunk(b"IHDR", struct.pack(">II5B", 60_000, 60_000, 8, 0, 0, 0, 0))
    assert said("x.png", png[:8] + header + png[33:]) == (
        "it has more than 1,073,741,824 pixels; denoise reads it with --max-pixels N"
    )
    wide = saved(tmp_path / "wide.png", GRAY).read_bytes()
    with pytest.raises(PipelineError, match="it has 2,000 pixels, and more than 1,999 are not read"):
        read_picture(io.BytesIO(wide), 1999)
    read_picture(io.BytesIO(wide), 2000)
    assert said("x.npy", np.full((40, 50), np.nan)) == "it holds NaN or infinity"
    large = chunk(b"IHDR", struct.pack(">II5B", 13_500, 13_500, 8, 0, 0, 0, 0))  # which is fine, if it were true
    assert "claims" not in said("x.png", png[:8] + large + png[33:])
    third = np.where(np.arange(5)[:, None, None] == 2, np.inf, np.zeros((5, 40, 50)))
    assert said("x.npy", third) == "it holds NaN or infinity in image 3 of 5"
    assert said("x.npz", {"a": GRAY / 255, "b": third}) == "its array 'b' holds NaN or infinity in image 3 of 5"
    assert said("x.npy", np.zeros((0, 40, 50))) == "it is empty: its shape is [0, 40, 50]"
    assert "it holds int64; allowed are" in said("x.npy", GRAY.astype(int))
    assert "it holds bool" in said("x.npy", GRAY > 0)
    assert "it holds Python objects (pickled)" in said("x.npy", np.array([{}]))
    assert "its array 'a' holds Python objects (pickled)" in said("x.npz", {"a": np.array([{}])})
    assert "its array 'size' has the shape []" in said("x.npz", {"a": GRAY, "size": np.float64(3)})
    assert "it has 65 channels" in said("x.npy", np.zeros((2, 65, 70, 80), np.uint8))
    with pytest.raises(PipelineError, match="it cannot be read: No such file or directory"):
        read_picture(tmp_path / "nowhere")
