"""White and black: what the caller says, what the model says, what the type says; and pictures that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import PROJECT, Cli, without_advice
from PIL import Image

from pipeline.denoising.levels import ChosenLevels, Dim
from pipeline.denoising.model import open_model
from pipeline.errors import PipelineError

HANDOFF = PROJECT / "artifacts" / "mnist-blind"


@pytest.fixture
def twelve(digits: np.ndarray) -> np.ndarray:
    """A noisy picture of digits, uint16 [56, 84] of 12 bits."""
    clean = np.concatenate([np.concatenate(digits[at : at + 3], axis=1) for at in (0, 3)]) / 255
    noise = 0.1 * np.random.default_rng(0).standard_normal(clean.shape)
    return np.rint((clean + noise).clip(0, 1) * 4095).astype(np.uint16)


def denoised(cli: Cli, folder: Path, name: str, *options: object) -> Any:
    return cli("denoise", "--model", HANDOFF, folder / name, "--output", folder / "out", *options)


def test_twelve_bits_in_sixteen_are_as_good_as_floats_with_white_and_warned_of_without(
    twelve: np.ndarray, tmp_path: Path, cli: Cli
) -> None:
    Image.fromarray(twelve).save(tmp_path / "twelve.png")
    np.save(tmp_path / "floats.npy", twelve.astype(np.float32) / 4095)
    np.save(tmp_path / "wide.npy", twelve.astype(np.float32))
    for name, options in {"twelve.png": ["--white", 4095], "floats.npy": [], "wide.npy": ["--white", 4095]}.items():
        done = denoised(cli, tmp_path, name, *options)
        assert (done.code, without_advice(done.err)) == (0, ""), done
    with Image.open(tmp_path / "out" / "twelve.png") as image:
        found = np.asarray(image).astype(int)
    floats = np.load(tmp_path / "out" / "floats.npy")
    np.testing.assert_allclose(np.load(tmp_path / "out" / "wide.npy"), floats * 4095, atol=0.01)
    assert np.abs(found - np.rint(floats.clip(0, 1) * 4095)).max() <= 1
    assert len(np.unique(found)) > 500  # no level is lost
    done = denoised(cli, tmp_path, "twelve.png")
    assert done.code == 0
    assert without_advice(done.err) == (
        f"warning: {tmp_path / 'twelve.png'}: its brightest pixel is 4,095 of 65,535; "
        "if white is 4,095, pass --white 4095\n"
    )


def test_a_white_below_the_brightest_pixel_names_the_picture(twelve: np.ndarray, tmp_path: Path, cli: Cli) -> None:
    Image.fromarray(twelve).save(tmp_path / "twelve.png")
    done = denoised(cli, tmp_path, "twelve.png", "--white", 4094)
    assert done.code == 1
    assert (
        f"skipped {tmp_path / 'twelve.png'}: its brightest pixel is 4,095, but white is 4,094; pass the value of white"
        in done.err
    )
    assert not (tmp_path / "out").exists()
    done = denoised(cli, tmp_path, "twelve.png", "--white", 100, "--black", 100)
    assert (done.code, done.err) == (2, "Error: --white 100 is not above --black 100\n")  # it is wrong for any picture
    done = denoised(cli, tmp_path, "twelve.png", "--black", 65535)
    assert (done.code, "its white, 65,535, is not above its black, 65,535; pass --white N" in done.err) == (1, True)


def test_floats_that_lie_elsewhere_are_refused_until_white_and_black_are_given(
    twelve: np.ndarray, tmp_path: Path, cli: Cli
) -> None:
    floats = twelve.astype(np.float32) / 4095
    np.save(tmp_path / "minus1.npy", floats * 2 - 1)
    np.save(tmp_path / "floats.npy", floats)
    done = denoised(cli, tmp_path, "minus1.npy")
    assert done.code == 1
    assert "of its values lie further outside of 0 to 1 than its noise explains (they range from -1 to 1)" in done.err
    assert denoised(cli, tmp_path, "minus1.npy", "--white", 1, "--black", -1).code == 0
    assert denoised(cli, tmp_path, "floats.npy").code == 0
    found, wanted = (np.load(tmp_path / "out" / name) for name in ("minus1.npy", "floats.npy"))
    np.testing.assert_allclose(found, wanted * 2 - 1, atol=1e-5)


def test_noise_may_go_beyond_black_and_white(digits: np.ndarray) -> None:
    """Even in single digits, where the level of the noise is hard to see, and where it grows with brightness."""
    random = np.random.default_rng(0)
    clean = digits[:1000, np.newaxis].astype(np.float32) / 255
    for sigma, count in ((0.0, 10), (0.1, 1000), (0.3, 100)):
        noisy = clean[:count] + np.float32(sigma) * random.standard_normal(clean[:count].shape, np.float32)
        for image in noisy:
            ChosenLevels().check(image[np.newaxis], (-3, 4))
        if sigma < 0.3:  # with more, the noise itself reaches from black to white
            with pytest.raises(PipelineError, match=r"lie further outside"):
                ChosenLevels().check(noisy[:10] * 2 - 1, (-9, 9))
    for image in random.poisson(clean[:100] * 100) / np.float32(100):
        ChosenLevels().check(image[np.newaxis].astype(np.float32), (-3, 4))
    ChosenLevels().check(clean[:, :, :2, :2], (-3, 4))  # too small to estimate any noise


def test_a_model_that_knows_its_levels_applies_them_to_its_own_type(
    twelve: np.ndarray, tmp_path: Path, cli: Cli
) -> None:
    proto = onnx.load(HANDOFF / "model.onnx")
    for key, value in {"white": "4095", "black": "100", "pixel_type": "uint16"}.items():
        proto.metadata_props.add(key=key, value=value)
    onnx.save(proto, tmp_path / "model.onnx")
    levels = open_model(tmp_path / "model.onnx").levels
    known = levels.of(np.dtype(np.uint16))
    assert (known.white, known.black, levels.is_known(np.dtype(np.uint16))) == (4095, 100, True)
    for dtype, white in ((np.uint8, 255), (np.float32, 1)):
        other = levels.of(np.dtype(dtype))
        assert (other.white, other.black, levels.is_known(np.dtype(dtype))) == (white, 0, False)
    said = open_model(tmp_path / "model.onnx", white=1000, black=0).levels.of(np.dtype(np.uint16))
    assert (said.white, said.black) == (1000, 0)

    Image.fromarray(twelve).save(tmp_path / "twelve.png")
    Image.fromarray(twelve + np.uint16(1)).save(tmp_path / "brighter.png")
    arguments = ["denoise", "--model", tmp_path / "model.onnx", "--output", tmp_path / "out"]
    done = cli(*arguments, tmp_path / "twelve.png")
    assert (done.code, without_advice(done.err)) == (0, "")
    with Image.open(tmp_path / "out" / "twelve.png") as image:
        assert np.asarray(image).max() > 3000
        assert np.asarray(image).min() == 100
    done = cli(*arguments, tmp_path / "brighter.png")
    assert "its brightest pixel is 4,096, but white is 4,095 in the images that the model was trained on" in done.err


def test_what_is_dim_is_said_once_for_each_thing_to_do() -> None:
    dim = Dim()
    dim.look_at("full", np.full((1, 1, 9, 9), 60_000, np.uint16))
    dim.look_at("black", np.zeros((1, 1, 9, 9), np.uint16))
    assert dim.warnings == []
    for name, value in {"a": 1000, "twelve": 4095, "b": 300, "c": 1023, "d": 257, "e": 900}.items():
        dim.look_at(name, np.full((1, 1, 9, 9), value, np.uint16))
    dim.look_at("photons", np.full((1, 1, 9, 9), 20, np.uint8))
    dim.look_at("floats", np.full((1, 1, 9, 9), 0.0625, np.float32))
    dim.look_at("others", np.full((1, 1, 9, 9), 0.03, np.float32))
    assert dim.warnings == [
        "warning: a: its brightest pixel is 1,000 of 65,535 (dim, too: b, c and 2 more); "
        "if white is 1,023, pass --white 1023",
        "warning: twelve: its brightest pixel is 4,095 of 65,535; if white is 4,095, pass --white 4095",
        "warning: photons: its brightest pixel is 20 of 255; if white is less than 255, pass its value: --white N",
        "warning: floats: its brightest pixel is 0.0625 of 1 (dim, too: others); "
        "if white is less than 1, pass its value: --white N",
    ]
