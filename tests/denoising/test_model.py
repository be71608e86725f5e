"""The released model, opened and run: which pictures it takes, how they are batched, and what comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import PROJECT

from pipeline.data.image_files import Picture
from pipeline.data.images import to_floats, to_integers
from pipeline.denoising.model import Model, batches, located_model, open_model
from pipeline.errors import PipelineError

HANDOFF = PROJECT / "artifacts" / "mnist-blind"


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model(HANDOFF / "model.onnx", threads=1)


def picture(shape: tuple[int, ...] = (1, 1, 28, 28), dtype: type = np.uint8, value: float = 0) -> Picture:
    return Picture(np.full(shape, value, dtype), None, "NPY", np.ndarray.tobytes)


def test_the_model_knows_its_facts(model: Model) -> None:
    assert model.channels == 1
    assert model.accepted[0] < 0
    assert model.accepted[1] > 1
    assert not model.clip_input


def test_images_come_back_in_their_type_and_shape_and_in_order(model: Model, digits: np.ndarray) -> None:
    noisy = (digits[:3, np.newaxis] * 0.8 + 20).astype(np.uint8)
    floats = model.denoise([to_floats(image[np.newaxis]) for image in noisy], np.dtype(np.float32))
    for dtype, white in ((np.uint8, 1), (np.uint16, 257)):
        inputs = [image[np.newaxis].astype(dtype) * dtype(white) for image in noisy]
        found = model.denoise(inputs, np.dtype(dtype))
        for image, wanted in zip(found, floats, strict=True):
            assert (image.dtype, image.shape) == (dtype, (1, 1, 28, 28))
            assert np.abs(image.astype(int) - to_integers(wanted, dtype)).max() <= 1


def test_every_channel_of_a_colour_image_is_denoised_by_itself(model: Model, digits: np.ndarray) -> None:
    (colour,) = model.denoise([digits[np.newaxis, :3]], np.dtype(np.uint8))
    for channel in range(3):
        (gray,) = model.denoise([digits[np.newaxis, channel : channel + 1]], np.dtype(np.uint8))
        assert np.abs(colour[0, channel].astype(int) - gray[0, 0]).max() <= 1


def test_pictures_that_are_no_noisy_images_are_refused(model: Model) -> None:
    model.check(picture(value=255))
    model.check(picture(dtype=np.float32, value=1))
    for value in (255, -40, np.nan):
        with pytest.raises(PipelineError, match=r"its values range from .* pass the value of white: --white N"):
            model.check(picture(dtype=np.float32, value=value))
    colour = Model(model.run, 3, model.halo, model.accepted, model.clip_input)
    for channels in (1, 2, 3, 4):  # each channel by itself, if need be
        colour.check(picture((1, channels, 28, 28)))
    many = Model(lambda noisy: 1 - noisy, 5, model.halo, model.accepted, model.clip_input)
    many.check(picture((2, 5, 28, 28)))
    (inverted,) = many.denoise([np.full((2, 5, 28, 28), 3, np.uint16)], np.dtype(np.uint16))
    np.testing.assert_array_equal(inverted, np.full((2, 5, 28, 28), 65532))
    with pytest.raises(PipelineError, match="it has 1 channel, but this model needs 5"):
        many.check(picture())


def test_a_batch_holds_pictures_of_one_shape_and_type_that_follow_each_other() -> None:
    small, wide, floats = picture(), picture((1, 1, 28, 30)), picture(dtype=np.float32)
    found = [[key for key, _ in batch] for batch in batches(enumerate([small, small, wide, small, floats, floats]))]
    assert found == [[0, 1], [2], [3], [4, 5]]
    assert list(batches([])) == []
    large = picture((1, 1, 400, 400))
    assert [len(batch) for batch in batches(enumerate([large] * 3))] == [1, 1, 1]
    many = [len(batch) for batch in batches(enumerate([small] * 1000))]
    assert sum(many) == 1000
    assert max(many) * 28 * 28 <= 256 * 1024


def test_a_model_is_found_as_a_folder_or_a_file_and_must_be_whole(tmp_path: Path) -> None:
    for given in (HANDOFF, HANDOFF / "model.onnx"):
        with located_model(str(given)) as path:
            assert path == HANDOFF / "model.onnx"
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with located_model(str(tmp_path)) as path:  # without sums there is nothing to compare it with
        assert path == tmp_path / "model.onnx"
    (tmp_path / "SHA256SUMS").write_bytes((HANDOFF / "SHA256SUMS").read_bytes())
    with pytest.raises(PipelineError, match="is damaged or was changed"), located_model(str(tmp_path)):
        pass


def test_a_file_of_another_exporter_says_what_is_missing(tmp_path: Path) -> None:
    proto = onnx.load(HANDOFF / "model.onnx")
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "other.onnx")
    with pytest.raises(PipelineError, match=r"was not exported by this pipeline: its metadata lacks 'accepted_range'"):
        open_model(tmp_path / "other.onnx")
