"""`load` and `denoise`: an array of any type and shape that is allowed comes back as the command would make it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT
from small_models import write_mean

from pipeline.denoising.denoiser import Denoiser, load
from pipeline.denoising.model import open_model
from pipeline.errors import PipelineError

TYPES = ("uint8", "uint16", ">u2", "float16", "float32", "float64", ">f8")


@pytest.fixture
def gray(tmp_path: Path) -> Denoiser:
    return load(str(write_mean(tmp_path / "model", channels=1)), threads=1)


def pixels(dtype: str, *shape: int) -> np.ndarray:
    """Random ones, within black and white."""
    drawn = np.random.default_rng(0).random(shape) * 0.9
    kind = np.dtype(dtype)
    return (drawn * (np.iinfo(kind).max if kind.kind == "u" else 1)).astype(kind)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 3), (4, 1, 20, 30), (4, 3, 20, 30), (4, 20, 30, 3)])
def test_type_and_shape_come_back(gray: Denoiser, dtype: str, shape: tuple[int, ...]) -> None:
    array = pixels(dtype, *shape)
    before = array.copy()
    denoised = gray.denoise(array)
    assert (denoised.shape, denoised.dtype) == (array.shape, array.dtype)
    assert (array == before).all()
    assert (denoised != array).mean() > 0.9


def test_it_is_what_the_model_makes_of_it(tmp_path: Path) -> None:
    folder = write_mean(tmp_path / "model", channels=3)
    model, denoiser = open_model(folder / "model.onnx", 1), load(str(folder), threads=1)
    batch = pixels("uint8", 5, 3, 20, 30)
    (wanted,) = model.denoise([batch], batch.dtype)
    last = np.moveaxis(batch, 1, -1)
    assert (denoiser.denoise(batch) == wanted).all()
    assert (denoiser.denoise(last) == np.moveaxis(wanted, 1, -1)).all()
    assert (denoiser.denoise(last[2]) == np.moveaxis(wanted, 1, -1)[2]).all()
    assert (denoiser.denoise(np.asfortranarray(batch)[::-1]) == wanted[::-1]).all()


def test_the_released_models_take_gray_and_colour_in_one_batch() -> None:
    mixed = pixels("uint8", 3, 3, 20, 30)
    mixed[1] = mixed[1, :1]
    denoiser = load(threads=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random pixels are no photographs
        together = denoiser.denoise(mixed)
        alone = [denoiser.denoise(np.moveaxis(image, 0, -1)) for image in mixed]
    assert (np.moveaxis(together, 1, -1) == np.stack(alone)).all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([[1]], "the array is a list, not a NumPy array"),
        (np.ma.zeros((20, 20)), "the array is masked"),
        (np.zeros((20, 20), int), "the array holds int64; allowed are uint8, uint16, and floats"),
        (np.zeros((20, 20), bool), "the array holds bool"),
        (np.zeros(20, np.uint8), r"the shape \[20\]; allowed are \[H, W\], .* where C is 1 or 3"),
        (np.zeros((5, 20, 20), np.uint8), r"gray images \[N, H, W\] are array\[:, None\]"),
        (np.zeros((3, 20, 20), np.uint8), r"a single \[C, H, W\] is array\[None\]"),
        (np.zeros((20, 20, 4), np.uint8), r"leave alpha out: array\[..., :3\]"),
        (np.zeros((2, 5, 20, 20), np.uint8), r"the shape \[2, 5, 20, 20\]; allowed are"),
        (np.zeros((0, 1, 20, 20), np.uint8), r"the array is empty: its shape is \[0, 1, 20, 20\]"),
        (np.full((20, 20), np.nan), "the array holds NaN or infinity"),
        (np.full((20, 20), 200.0), "the array: its values range from 200 to 200, .*; pass the value of white: white=N"),
        (np.arange(2.0).reshape(2, 1, 1, 1) * np.full((2, 1, 20, 20), 99.0), "image 1 of the array: its values range"),
    ],
)
def test_anything_else_is_refused(gray: Denoiser, array: np.ndarray, message: str) -> None:
    with pytest.raises(PipelineError, match=message) as refused:
        gray.denoise(array)
    assert "--" not in str(refused.value)  # options of the command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "nowhere"}, "^model nowhere: nowhere does not exist; give a hand-off folder"),
        ({"strength": 2}, "^strength: 2 is not a number from 0 to 1.5"),
        ({"strength": "1"}, "^strength: '1' is not a number from 0 to 1.5"),
        ({"strength": None}, "^strength: None is not a number from 0 to 1.5"),
        ({"quality": "good"}, "^quality: 'good' is not known; allowed: fast, best"),
        ({"quality": ["best"]}, "^quality: .* is not known; allowed: fast, best"),
        ({"white": -1}, "^white: -1 is not a number above 0"),
        ({"white": "a"}, "^white: 'a' is not a number above 0"),
        ({"white": True}, "^white: True is not a number above 0"),
        ({"black": float("nan")}, "^black: nan is not a number"),
        ({"black": [0]}, r"^black: \[0\] is not a number"),
        ({"white": 10, "black": 20}, "^white=10 is not above black=20"),
        ({"threads": "two"}, "^threads: 'two' is not an integer from 0 to 1,024"),
        ({"threads": 1.5}, "^threads: 1.5 is not an integer"),
    ],
)
def test_what_load_does_not_take(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        load(**arguments)  # type: ignore[arg-type]


def test_levels_strength_and_quality_are_those_of_the_command(gray: Denoiser, tmp_path: Path) -> None:
    folder = str(tmp_path / "model")
    array = pixels("uint16", 20, 30) // 4
    assert (load(folder, strength=0).denoise(array) == array).all()
    assert load(folder, white=16383).denoise(array).max() <= 16383
    assert load(folder, white=np.float32(16383), threads=np.int64(1)).denoise(array).max() <= 16383  # type: ignore[arg-type]
    assert (load(folder, quality="best").denoise(array) != gray.denoise(array)).any()


def test_it_warns_of_what_is_strange_or_dim() -> None:
    digits = load(str(PROJECT / "artifacts" / "mnist-blind"), threads=1)
    with pytest.warns(UserWarning, match=r"^image 0 of the array: its brightest pixel is 900 .*pass white=1023$"):
        digits.denoise(np.full((2, 1, 28, 28), 900, np.uint16))
    with pytest.warns(UserWarning, match="image 1 of the array: it does not look like what this model was trained on"):
        digits.denoise(np.full((2, 1, 28, 28), 9, np.uint8))
