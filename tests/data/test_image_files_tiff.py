"""TIFF files: every page or plane is an image, and what is written back has the axes and tags of what was read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_image_files import COLOUR, DEEP, GRAY, RANDOM, again, planes

from pipeline.data.image_files import read_picture
from pipeline.errors import PipelineError

STACK = RANDOM.integers(0, 4096, (3, 2, 40, 50), dtype=np.uint16)  # of times or depths, and channels


def written(path: Path, array: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, array, **options)
    return path


@pytest.mark.parametrize(
    ("array", "options", "images"),
    [
        (GRAY, {}, (1, 1)),
        (DEEP[..., 0], {}, (1, 1)),
        ((GRAY / 255).astype(np.float32), {}, (1, 1)),
        ((GRAY / 255).astype(np.float32).astype(np.float64), {"compression": "zlib"}, (1, 1)),
        ((GRAY / 255).astype(np.float16), {"bigtiff": True}, (1, 1)),
        (DEEP[..., :3], {"photometric": "rgb"}, (1, 3)),
        (DEEP[..., :3], {"photometric": "rgb", "tile": (16, 16), "compression": "zlib", "byteorder": ">"}, (1, 3)),
        (planes(DEEP[..., :3]), {"photometric": "rgb", "planarconfig": "separate"}, (1, 3)),
        (planes(DEEP[..., :3]), {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"}, (1, 3)),
        (DEEP, {"photometric": "rgb", "extrasamples": ["unspecified"]}, (1, 4)),
        (DEEP.repeat(16, axis=2), {"photometric": "minisblack", "planarconfig": "contig"}, (1, 64)),
        (STACK[:, 0], {"photometric": "minisblack"}, (3, 1)),
        (STACK[:, 0], {"photometric": "minisblack", "compression": "zlib"}, (3, 1)),
        (STACK[:, 0], {"photometric": "minisblack", "truncate": True}, (3, 1)),
        (STACK, {"imagej": True, "metadata": {"axes": "ZCYX", "Labels": list("abcdef")}}, (3, 2)),
        (STACK, {"ome": True, "metadata": {"axes": "TCYX", "PhysicalSizeX": 0.5}}, (3, 2)),
        (STACK, {"ome": True, "metadata": {"axes": "CZYX"}}, (2, 3)),
        (RANDOM.integers(0, 256, (3, 40, 50, 3), dtype=np.uint8), {"imagej": True}, (3, 3)),
        (RANDOM.integers(0, 256, (40, 50, 4), dtype=np.uint8), {"photometric": "separated"}, (1, 4)),
    ],
)
def test_what_is_written_is_what_was_read(
    array: np.ndarray, options: dict[str, Any], images: tuple[int, int], tmp_path: Path
) -> None:
    picture, copy = again(written(tmp_path / "x.png", array, **options))
    assert picture.pixels.shape == (*images, 40, 50)
    assert copy.pixels.dtype == picture.pixels.dtype == (np.float32 if array.dtype.kind == "f" else array.dtype)
    np.testing.assert_array_equal(copy.pixels, picture.pixels)
    with tifffile.TiffFile(tmp_path / "x.png") as before, tifffile.TiffFile(tmp_path / "copy") as after:
        np.testing.assert_array_equal(after.asarray(), array)
        assert after.asarray().dtype == array.dtype
        assert after.series[0].axes.replace("I", "Q") == before.series[0].axes
        assert (after.is_bigtiff, after.byteorder) == (before.is_bigtiff, before.byteorder)
        for name in ("photometric", "planarconfig", "extrasamples"):
            assert getattr(after.pages.first, name) == getattr(before.pages.first, name)
        assert after.ome_metadata == before.ome_metadata
        assert after.imagej_metadata == before.imagej_metadata


def test_images_are_in_the_order_of_the_stack(tmp_path: Path) -> None:
    picture = read_picture(written(tmp_path / "x.tif", STACK, imagej=True, metadata={"axes": "ZCYX"}))
    np.testing.assert_array_equal(picture.pixels, STACK)
    picture = read_picture(written(tmp_path / "y.tif", STACK, ome=True, metadata={"axes": "CZYX"}))
    np.testing.assert_array_equal(picture.pixels, STACK.swapaxes(0, 1))


def test_tags_stay(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "resolution": (118.11, 59.0),
        "resolutionunit": 3,
        "iccprofile": b"profile",
        "metadata": None,
    }
    tags = [(274, 3, 1, 6, True), (33550, 12, 3, (0.5, 0.5, 0.0), True), (315, 2, 0, "somebody", True)]
    picture, _ = again(written(tmp_path / "x.tif", DEEP[..., 0], **options, extratags=tags, description="words"))
    assert picture.orientation == 6
    with tifffile.TiffFile(tmp_path / "x.tif") as before, tifffile.TiffFile(tmp_path / "copy") as after:
        for code in (270, 274, 282, 283, 296, 305, 315, 33550, 34675):
            assert after.pages.first.tags.valueof(code) == before.pages.first.tags.valueof(code), code


def test_alpha_is_none_of_the_channels(tmp_path: Path) -> None:
    options: dict[str, Any] = {"extrasamples": ["unassalpha"], "planarconfig": "contig"}
    for array, kind in ((DEEP, "rgb"), (DEEP[..., :2], "minisblack")):
        picture, copy = again(written(tmp_path / "x.tif", array, photometric=kind, **options))
        assert picture.alpha is not None
        np.testing.assert_array_equal(picture.alpha[0], array[..., -1])
        np.testing.assert_array_equal(picture.pixels[0], planes(array)[:-1])
        assert copy.alpha is not None
        np.testing.assert_array_equal(copy.alpha, picture.alpha)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "copy"), array)


def test_white_is_white_and_palettes_are_colours(tmp_path: Path) -> None:
    for array in (GRAY, DEEP[..., 0]):
        picture, _ = again(written(tmp_path / "x.tif", ~array, photometric="miniswhite"))
        np.testing.assert_array_equal(picture.pixels[0, 0], array)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "copy"), ~array)
    with tifffile.TiffFile(tmp_path / "copy") as file:
        assert file.pages.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    written(tmp_path / "x.tif", GRAY > 99, photometric="minisblack")
    np.testing.assert_array_equal(read_picture(tmp_path / "x.tif").pixels[0, 0], (GRAY > 99) * 255)
    palette = Image.fromarray(COLOUR).quantize(16)
    palette.save(tmp_path / "x.tif")
    for picture in again(tmp_path / "x.tif"):
        np.testing.assert_array_equal(picture.pixels[0], planes(np.asarray(palette.convert("RGB"))))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "group4", "jpeg", "zstd"])
def test_what_tifffile_cannot_read_by_itself_pillow_reads(compression: str, tmp_path: Path) -> None:
    kinds: dict[str, np.ndarray] = {
        "gray": GRAY,
        "colour": COLOUR,
        "deep": DEEP[..., 0],
        "floats": GRAY.astype(np.float32) / 255,
    }
    if compression == "group4":
        kinds = {"bits": GRAY > 99}
    elif compression == "jpeg":
        kinds = {"gray": GRAY // 4 * 0 + 7, "colour": COLOUR * 0 + np.uint8(7)}
    for name, array in kinds.items():
        Image.fromarray(array).save(tmp_path / "x.tif", compression=compression)
        for picture in again(tmp_path / "x.tif"):
            wanted = planes(array * 255 if name == "bits" else array)
            np.testing.assert_array_equal(picture.pixels[0], wanted, name)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(kinds.get("colour", GRAY > 99)).save(tmp_path / "x.tif", compression=compression, exif=exif)
        for picture in again(tmp_path / "x.tif"):
            assert picture.orientation == orientation
            assert picture.pixels.shape[-2:] == (40, 50)
            assert picture.upright.shape[-2:] == ((40, 50) if orientation < 5 else (50, 40))
            if compression == "tiff_lzw":
                np.testing.assert_array_equal(picture.pixels[0], planes(COLOUR))


def test_what_neither_reads_names_the_package(tmp_path: Path) -> None:
    for array, tag, value, said in (
        (DEEP[..., :3], "Compression", 5, "16 bits, compression LZW"),  # which tifffile cannot write by itself either
        (DEEP[..., :3], "BitsPerSample", (12, 12, 12), "12 bits, compression NONE"),
    ):
        written(tmp_path / "x.tif", array, photometric="rgb")
        with tifffile.TiffFile(tmp_path / "x.tif", mode="r+") as file:
            file.pages.first.tags[tag].overwrite(value)
        with pytest.raises(PipelineError, match=rf"its pixels \({said}\) need another package; run: pip install ima"):
            read_picture(tmp_path / "x.tif")


def test_packed_twelve_bits_are_all_read(tmp_path: Path) -> None:
    array = DEEP[..., 0] % 4096
    even, odd = array[:, ::2], array[:, 1::2]
    packed = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], axis=-1).astype(np.uint8).reshape(40, 75)
    written(tmp_path / "x.tif", np.pad(packed, ((0, 0), (0, 25))).reshape(40, 50, 2).view(np.uint16)[..., 0])
    content = bytearray((tmp_path / "x.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        (start,) = file.pages.first.dataoffsets
    content[start : start + packed.size] = packed.tobytes()
    (tmp_path / "x.tif").write_bytes(content)
    with tifffile.TiffFile(tmp_path / "x.tif", mode="r+") as file:
        file.pages.first.tags["BitsPerSample"].overwrite(12)
    for picture in again(tmp_path / "x.tif"):
        np.testing.assert_array_equal(picture.pixels[0, 0], array)


def test_copies_and_masks_in_a_file_are_no_images(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(GRAY)
        file.write(GRAY[::2, ::2], subfiletype=1)
    assert read_picture(tmp_path / "x.tif").pixels.shape == (1, 1, 40, 50)
    with tifffile.TiffWriter(tmp_path / "y.tif", ome=True) as file:
        file.write(STACK[:, 0], subifds=1, metadata={"axes": "ZYX"})
        file.write(STACK[:, 0, ::2, ::2], subfiletype=1)
    assert read_picture(tmp_path / "y.tif").pixels.shape == (3, 1, 40, 50)


def test_every_bad_file_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"

    def said(*pages: np.ndarray, **options: Any) -> str:
        if pages:
            with tifffile.TiffWriter(path) as file:
                for page in pages:
                    file.write(page, **options)
        with pytest.raises(PipelineError) as error:
            read_picture(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert said(GRAY, GRAY, GRAY[:30]) == "its pages differ: page 1 is 40x50 uint8, page 3 is 30x50 uint8"
    assert said(GRAY, DEEP[..., 0]) == "its pages differ: page 1 is 40x50 uint8, page 2 is 40x50 uint16"
    assert "page 2 is 40x50 uint8 with 3 channels" in said(GRAY, COLOUR)
    assert said(np.full((40, 50), np.inf, np.float32)) == "it holds NaN or infinity"
    infinite = [np.full((40, 50), value, np.float32) for value in (0, 0, np.nan)]
    assert said(*infinite) == "it holds NaN or infinity in image 3 of 3"
    assert "it holds int16; allowed are" in said(GRAY.astype(np.int16))
    many = np.zeros((40, 50, 65), np.uint8)
    assert "it has 65 channels; at most 64 are allowed" in said(many, photometric="minisblack", planarconfig="contig")
    assert "it is a raw file of a camera" in said(GRAY, extratags=[(50706, 1, 4, (1, 4, 0, 0), True)])
    Image.fromarray(COLOUR).convert("LAB").save(path)
    assert "its page 1 has colours of the kind CIELAB" in said()

    for compression in (None, "zlib"):
        with tifffile.TiffWriter(path) as file:
            for _ in range(3):
                file.write(GRAY, compression=compression)
        whole = path.read_bytes()
        for share in (0.02, 0.2, 0.5, 0.8, 0.95):
            path.write_bytes(whole[: int(len(whole) * share)])
            assert "it is damaged" in (text := said()) or "it cannot be read" in text or "it holds no pages" in text
    path.write_bytes(whole)
    with tifffile.TiffFile(path) as tiff:
        second = tiff.pages[1].offset
    path.write_bytes(whole[:second])  # what is left is a whole page
    assert "it is damaged" in said()
    path.write_bytes(whole)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[1].aspage().tags["StripByteCounts"].overwrite(0)
    assert said() == "its page 2 is empty"
