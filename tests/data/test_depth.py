"""The depth, the levels and the channels of images: nothing is lost, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from folders import TEN, message_of, picture, prepared, refusal, write
from PIL import Image

from pipeline.data.images import Levels
from pipeline.data.sources.reading import converted


@pytest.mark.parametrize(("bits", "white"), [(8, 255), (10, 1023), (12, 4095), (14, 16383), (16, 65535)])
def test_no_level_of_16_bits_is_lost(bits: int, white: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    levels = np.arange(2**bits, dtype=np.uint16)
    for index in TEN:
        write(tmp_path / "mine" / f"{index}.png", np.random.default_rng(index).permutation(levels).reshape(16, -1))
    data = prepared(tmp_path / "mine")
    assert (data.dtype, data.levels) == (np.uint16, Levels(white, 0))
    assert len(np.unique(data.train.images[0])) == 2**bits
    floats = data.levels.to_floats(data.test.images[0])
    assert (floats.min(), floats.max()) == (0, 1)
    kind = "16 bits" if bits == 16 else f"{bits} bits in 16"
    assert f"{kind}: white {white}, black 0" in capsys.readouterr().out


def test_white_and_black_are_checked(tmp_path: Path) -> None:
    for index in TEN:
        write(tmp_path / "mine" / f"{index}.png", picture(index, capture=100 * index, dtype=np.uint16))
    assert "--white 900: 8.png has brighter pixels" not in refusal(tmp_path / "mine", white=900)
    assert "--white 900: 9.png has brighter pixels, up to 10" in refusal(tmp_path / "mine", white=900)
    assert "--black 5000 is not below white, which is 4095" in refusal(tmp_path / "mine", black=5000)
    data = prepared(tmp_path / "mine", white=2000, black=50)
    assert data.levels == Levels(2000, 50)
    assert data.manifest["levels"] == {"white": 2000, "black": 50}


def test_floats_lie_around_0_to_1_or_white_is_given(tmp_path: Path) -> None:
    smooth = np.linspace(0, 1, 40, dtype=np.float32) * np.ones((32, 1), np.float32)
    noise = np.random.default_rng(0).normal(0, 0.1, (10, 32, 40)).astype(np.float32)
    for index in TEN:
        write(tmp_path / "noisy" / f"{index}.npy", smooth + noise[index])
        write(tmp_path / "wide" / f"{index}.npy", smooth * 2 - 1 + noise[index] / 10)
    data = prepared(tmp_path / "noisy")
    assert (data.dtype, data.levels) == (np.float32, Levels(1, 0))
    assert data.train.images[0].min() < 0  # nothing is clipped
    assert "floats must lie around black, 0, to white, 1, but" in message_of(lambda: prepared(tmp_path / "wide"))
    assert prepared(tmp_path / "wide", white=1, black=-1).levels == Levels(1, -1)


def test_gray_is_the_luma_of_every_type() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (3, 50, 60)).astype(np.uint8)
    gray = np.asarray(Image.fromarray(colour.transpose(1, 2, 0)).convert("L"))
    assert np.array_equal(converted(colour[np.newaxis], 1)[0, 0], gray)
    deep = converted(colour[np.newaxis].astype(np.uint16) * 257, 1)[0, 0]
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - gray).max() <= 0.502
    floats = converted((colour[np.newaxis] / 255).astype(np.float32), 1)[0, 0]
    assert np.abs(floats * 255 - gray).max() <= 0.502
    assert converted(np.full((1, 3, 2, 2), 65535, np.uint16), 1).min() == 65535


def test_as_many_channels_as_the_data_have(tmp_path: Path) -> None:
    for index in TEN:
        (tmp_path / "mine").mkdir(exist_ok=True)
        np.save(tmp_path / "mine" / f"{index}.npy", np.random.default_rng(index).random((1, 5, 32, 32), np.float32))
    data = prepared(tmp_path / "mine")
    assert data.channels == 5
    assert "with 5 channels" in data.describe()
    assert (
        "9.npy: it has 5 channels, which cannot become 1; allowed are 1, and 3 (colour), which become gray"
        in message_of(lambda: prepared(tmp_path / "mine", channels=1))
    )
    np.save(tmp_path / "mine" / "3.npy", np.zeros((1, 65, 70, 70), np.float32))
    assert "3.npy: it has 65 channels" in message_of(lambda: prepared(tmp_path / "mine"))
