"""`denoise` on files as people have them: what comes back is what was there, denoised."""

from __future__ import annotations

import os
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from conftest import PROJECT, Cli, without_advice
from PIL import Image

from pipeline.data.image_files import read_picture
from pipeline.denoising.model import open_model

HANDOFF = PROJECT / "artifacts" / "mnist-blind"


@pytest.fixture
def colour(digits: np.ndarray) -> np.ndarray:
    """uint8 [56, 84, 3]: noisy digits in colour."""
    gray = np.concatenate([np.concatenate(digits[at : at + 3], axis=1) for at in (0, 3)])
    noise = 25 * np.random.default_rng(0).standard_normal((*gray.shape, 3))
    return (np.stack([gray, gray[::-1], gray[:, ::-1]], axis=-1) * 0.8 + 20 + noise).clip(0, 255).astype(np.uint8)


def denoise(cli: Cli, folder: Path, *names: str) -> list[np.ndarray]:
    """The pixels [N, C, H, W] of the results, for files in `folder`."""
    done = cli("denoise", "--model", HANDOFF, *(folder / name for name in names), "--output", folder / "out")
    assert (done.code, without_advice(done.err)) == (0, ""), done
    return [read_picture(folder / "out" / name).pixels for name in names]


def wanted(array: np.ndarray) -> np.ndarray:
    """What the model makes of pixels [H, W, C], as [1, C, H, W]."""
    pixels = np.ascontiguousarray(array.transpose(2, 0, 1))[np.newaxis]
    return open_model(HANDOFF / "model.onnx").denoise([pixels], array.dtype)[0]


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert np.abs(found.astype(float) - expected).max() <= 1  # the last bit of a sum may decide a rounding


def test_planes_and_pixels_are_the_same_picture(colour: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    deep = colour.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "pixels.tif", deep, photometric="rgb")
    options: dict[str, Any] = {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "planes.tif", deep.transpose(2, 0, 1), **options)
    tifffile.imwrite(tmp_path / "deflated.tif", deep.transpose(2, 0, 1), compression="zlib", **options)
    for found in denoise(cli, tmp_path, "pixels.tif", "planes.tif", "deflated.tif"):
        assert_close(found, wanted(deep))


def test_a_picture_that_lies_on_its_side_stays_as_it_is(colour: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    for name, array in (("eight.tif", colour), ("sixteen.tif", colour.astype(np.uint16) * 257)):
        tifffile.imwrite(tmp_path / name, array, photometric="rgb", extratags=[(274, 3, 1, 6, True)])
        (found,) = denoise(cli, tmp_path, name)
        assert_close(found, wanted(array))
        assert read_picture(tmp_path / "out" / name).orientation == 6


def test_what_is_hidden_does_not_change_what_is_visible(colour: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    height, width = np.mgrid[:56, :84]
    visible = (height - 28) ** 2 + (width - 42) ** 2 < 22**2
    alpha = np.where(visible, 255, 0).astype(np.uint8)
    names = []
    for name, hidden in {"lime": (0, 255, 0), "black": (0, 0, 0), "white": (255, 255, 255)}.items():
        array = np.where(visible[..., np.newaxis], colour, np.array(hidden, np.uint8))
        Image.fromarray(np.dstack([array, alpha])).save(tmp_path / f"{name}.png")
        names.append(f"{name}.png")
    lime, *others = denoise(cli, tmp_path, *names)
    assert (lime[0, 1][~visible] == 255).all()  # as it was
    for other in others:
        np.testing.assert_array_equal(other[:, :, visible], lime[:, :, visible])
    picture = read_picture(tmp_path / "out" / "lime.png")
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha[0], alpha)


def test_transparent_colours_stay_transparent(colour: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    gray = colour[..., 0].clip(8)
    gray[:20, :20] = 7
    colour = colour.copy()
    colour[:20, :20] = (255, 0, 255)
    Image.fromarray(gray).save(tmp_path / "gray.png", transparency=7)
    Image.fromarray(colour).save(tmp_path / "colour.png", transparency=(255, 0, 255))
    denoise(cli, tmp_path, "gray.png", "colour.png")
    for name in ("gray.png", "colour.png"):
        with Image.open(tmp_path / "out" / name) as image:
            assert (np.asarray(image.convert("RGBA"))[..., 3] == 0).sum() == 400, name


def test_sixteen_bits_in_colour_stay_with_their_profile_whatever_the_name(
    colour: np.ndarray, tmp_path: Path, cli: Cli
) -> None:
    deep = colour.astype(np.uint16) * 257 - np.uint16(3)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", 84, 56, 16, 2, 0, 0, 0)),
        (b"iCCP", b"wide\0\0" + zlib.compress(b"profile")),
        (b"pHYs", struct.pack(">IIB", 11811, 11811, 1)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    (tmp_path / "deep.jpg").write_bytes(content)
    (found,) = denoise(cli, tmp_path, "deep.jpg")
    assert_close(found, wanted(deep))
    with Image.open(tmp_path / "out" / "deep.jpg") as image:
        assert image.format == "PNG"
        assert image.info["icc_profile"] == b"profile"
        assert [round(number) for number in image.info["dpi"]] == [300, 300]


def test_stacks_come_back_as_stacks(colour: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    stack = np.stack([colour, colour[::-1]]).transpose(0, 3, 1, 2).astype(np.uint16) * 257  # [Z, C, Y, X]
    tifffile.imwrite(tmp_path / "imagej.tif", stack, imagej=True, metadata={"axes": "ZCYX", "unit": "um"})
    tifffile.imwrite(tmp_path / "ome.tif", stack, ome=True, metadata={"axes": "ZCYX", "PhysicalSizeX": 0.5})
    np.savez(tmp_path / "arrays.npz", a=stack, b=stack[:1, 0])
    floats = (stack[:, 0] / 65535).astype(np.float32)
    np.save(tmp_path / "floats.npy", floats)
    expected = np.concatenate([wanted(image.transpose(1, 2, 0)) for image in stack])
    for found in denoise(cli, tmp_path, "imagej.tif", "ome.tif"):
        assert_close(found, expected)
    (found,) = denoise(cli, tmp_path, "floats.npy")
    np.testing.assert_allclose(found[:, 0], expected[:, 0] / 65535, atol=2e-5)
    with tifffile.TiffFile(tmp_path / "out" / "imagej.tif") as file:
        assert file.series[0].axes == "ZCYX"
        assert (file.imagej_metadata or {})["unit"] == "um"
    with tifffile.TiffFile(tmp_path / "out" / "ome.tif") as file:
        assert file.series[0].axes == "ZCYX"
        assert 'PhysicalSizeX="0.5"' in (file.ome_metadata or "")


def test_names_of_any_bytes_and_lengths(colour: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    names = {os.fsencode(name) for name in ("a.png", "x" * 246 + ".png", "z.png")} | {b"caf\xe9.png"}
    (tmp_path / "in").mkdir()
    for name in names:
        Image.fromarray(colour[..., 0]).save(tmp_path / "in" / os.fsdecode(name))
    for options in ([], ["--variance", "0.01"]):
        done = cli("denoise", "--model", HANDOFF, tmp_path / "in", "--output", tmp_path / "out", *options)
        assert (done.code, without_advice(done.err)) == (0, ""), done
        assert set(os.listdir(os.fsencode(tmp_path / "out"))) == names | {b".denoised"}  # noqa: PTH208  # a Path gives no bytes
    for name in names:
        (tmp_path / "in" / os.fsdecode(name)).write_bytes(b"no image")
    done = cli("denoise", "--model", HANDOFF, tmp_path / "in", "--output", tmp_path / "out")
    assert done.code == 1
    assert rf"skipped {tmp_path}/in/caf\xe9.png: it is not in a known image format" in done.err


def test_what_is_no_image_is_left_out_and_said(colour: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "in" / "@eaDir").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "c.jfif", "@eaDir/a.png"):
        Image.fromarray(colour).save(tmp_path / "in" / name, "PNG")
    (tmp_path / "in" / "paper.pdf").write_bytes(b"%PDF-1.7")
    (tmp_path / "in" / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    done = cli("denoise", "--model", HANDOFF, tmp_path / "in", "--output", tmp_path / "out")
    assert done.code == 0
    assert done.out.endswith(f"denoise: 3 of 3 files, in {tmp_path / 'out'}\n")
    assert without_advice(done.err) == (
        "denoise: left out: 2 files that are not images: paper.pdf, phone.heic; 1 link to what is found already: loop\n"
    )
    done = cli("denoise", "--model", HANDOFF, tmp_path / "in" / "loop" / "@eaDir", "--output", tmp_path / "o")
    assert done.code == 0  # it was asked for
    (tmp_path / "none").mkdir()
    done = cli("denoise", "--model", HANDOFF, tmp_path / "none", "--output", tmp_path / "o")
    assert (done.code, done.err.startswith(f"Error: no images in {tmp_path / 'none'} (PNG, JPEG, TIFF")) == (1, True)


def test_what_is_no_regular_file_is_skipped_and_not_waited_for(
    colour: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(colour).save(tmp_path / "in" / "a.png")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    (tmp_path / "in" / "link.png").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("in/socket.png")
        done = cli("denoise", "--model", HANDOFF, "in", "--output", "out")
    assert done.code == 1
    assert done.out.endswith("denoise: 1 of 4 files, in out\n")
    for name in ("pipe", "link", "socket"):
        assert f"skipped in/{name}.png: it cannot be read: it is not a regular file\n" in done.err
    done = cli("denoise", "--model", HANDOFF, "in/pipe.png", "--output", "out", "--strength", 0)
    assert (done.code, "in/pipe.png: it cannot be read: it is not a regular file" in done.err) == (1, True)
    os.mkfifo(tmp_path / "out" / "b.png")
    Image.fromarray(colour).save(tmp_path / "b.png")
    done = cli("denoise", "--model", HANDOFF, "b.png", "--output", "out")
    assert (done.code, "out/b.png would be overwritten" in done.err) == (2, True)
