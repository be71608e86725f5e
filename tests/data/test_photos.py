"""Images of any size, gray and in colour: prepared, trained on in crops, evaluated whole, handed off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import mlflow
import numpy as np
import onnxruntime
import pytest
import torch
from conftest import Cli
from PIL import Image

from pipeline.config import Config
from pipeline.data.batches import Batches, RandomCrops, WholeImages, training_batches, validation_batch
from pipeline.data.images import Part
from pipeline.data.sources import photos as installed
from pipeline.data.sources.photos import Photos
from pipeline.errors import PipelineError
from pipeline.stages.prepare import prepare

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def nothing_installed() -> Iterator[None]:
    """Whatever packages of wallpapers this machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(installed, "_INSTALLED", ())
        yield


@pytest.fixture(scope="module")
def photos(nothing_installed: None) -> list[np.ndarray]:
    """Real photographs in colour, uint8 [3, H, W], of several sizes."""
    parts = Photos(Path("nowhere")).divide(3, Path())
    assert parts.test is not None
    return [*parts.train.images, *parts.test.images]


def epoch(batches: Batches, size: int, seed: int) -> torch.Tensor:
    """All images of an epoch, as they are stored."""
    return torch.cat([batch.images for batch in batches.epoch(size, torch.Generator().manual_seed(seed))])


def write_photos(folder: Path, photos: list[np.ndarray], side: int = 120, colour: bool = True) -> None:
    """Small pieces of photographs, each of another size."""
    folder.mkdir()
    for index, photo in enumerate(photos[:6]):
        piece = Image.fromarray(photo[:, 50 : 50 + side + index, 60 : 60 + side - 7 * index].transpose(1, 2, 0))
        (piece if colour else piece.convert("L")).save(folder / f"{index}.png")


def test_photos_are_split_into_training_and_test(tmp_path: Path) -> None:
    data = prepare(Config(dataset="photos", data_dir=str(tmp_path)))
    assert len(data.test) == 9
    assert [image.shape for image in data.test.images][:5] == [(1, 512, 512)] * 4 + [(1, 303, 384)]
    assert len(data.train) + len(data.validation) >= 8
    assert min(image.std() for image in data.test.images) > 10  # photographs, not empty canvases
    names = set(data.manifest["inputs"])
    assert {"camera.png", "aero.npz", "china.jpg", "astronaut.png"} <= names
    assert "no others" in data.manifest["origin"]

    colour = prepare(Config(dataset="photos", data_dir=str(tmp_path), channels=3))
    assert {image.shape[0] for image in [*colour.train.images, *colour.validation.images, *colour.test.images]} == {3}
    assert len(colour.test) == 3
    again = prepare(Config(dataset="photos", data_dir=str(tmp_path)))
    assert again.digest == data.digest != colour.digest
    # Those of every version so far.
    assert data.test_digest == "77efdb6ef94461581a0218f8b657636531907c6e83141fe398657c3b9f02904e"
    assert colour.test_digest == "b6064806b1b41652e030633a1b4da831921e5d9353bb9595f3d62b88b64d5013"
    for one, other in zip(again.test.images, data.test.images, strict=True):
        assert np.array_equal(one, other)


def test_photographs_in_the_data_folder_are_reduced_and_credited(tmp_path: Path, photos: list[np.ndarray]) -> None:
    (tmp_path / "photos" / "trip").mkdir(parents=True)
    large = np.random.default_rng(0).integers(0, 256, (600, 2600, 3), np.uint8)
    Image.fromarray(large).save(tmp_path / "photos" / "budgie-one.png")
    Image.fromarray(large).convert("RGB").save(tmp_path / "photos" / "budgie-two.jpg")
    for number in range(30):
        piece = photos[0][:, number : number + 200, number : number + 300].transpose(1, 2, 0)
        Image.fromarray(piece).save(tmp_path / "photos" / "trip" / f"{number}.png")
    (tmp_path / "photos" / "walk").mkdir()
    Image.fromarray(photos[1][:, :200, :300].transpose(1, 2, 0)).save(tmp_path / "photos" / "walk" / "0.png")
    parts = Photos(tmp_path).divide(3, tmp_path)
    assert parts.validation is not None
    shapes = [image.shape for image in parts.train.images]
    middles = [image.shape for image in parts.validation.images]
    assert {(3, 300, 1300), (3, 150, 650)} < {*shapes}  # of a half and a quarter of the size
    assert 1 <= len(middles) < 10
    assert max(max(shape) for shape in middles) <= 384
    assert len(shapes) + len(middles) == len(Photos(Path("nowhere")).divide(3, tmp_path).train.images) + 4 + 31
    assert "wallpapers of the Budgie desktop: CC0 1.0 (1)" in Photos(tmp_path).licence  # not for another form of a file
    assert "not known (32)" in Photos(tmp_path).licence


def test_crops_by_detail_are_where_the_detail_is() -> None:
    image = np.zeros((1, 128, 256), np.uint8)
    image[0, :, 128:] = np.random.default_rng(0).integers(0, 256, (128, 128))
    shares = {}
    for by_detail in (False, True):
        batches = training_batches(Part([image]), 32, CPU, by_detail)
        crops = torch.cat([epoch(batches, 8, seed) for seed in range(60)]).float()
        shares[by_detail] = (crops.std(dim=(1, 2, 3)) > 30).float().mean().item()
    assert shares[False] == pytest.approx(0.5, abs=0.08)
    assert shares[True] > 0.9
    flat = training_batches(Part([np.zeros((1, 40, 40), np.uint8)]), 32, CPU, by_detail=True)
    assert len(epoch(flat, 8, 0)) == len(flat)


def test_crops_lie_in_the_images_and_are_turned(photos: list[np.ndarray]) -> None:
    images = [np.arange(40 * 50, dtype=np.uint8).reshape(1, 40, 50), np.full((1, 64, 64), 7, np.uint8)]
    batches = training_batches(Part(images), 32, CPU)
    assert isinstance(batches, RandomCrops)
    assert len(batches) == (40 * 50 + 64 * 64) // 32**2
    crops = epoch(batches, 2, 0)
    assert crops.shape == (len(batches), 1, 32, 32)
    flat = torch.from_numpy(images[0])
    seen = 0
    for crop in crops:
        if (crop == 7).all():
            continue
        turned = [t for k in range(4) for r in [crop.rot90(k, (1, 2))] for t in (r, r.flip(2))]
        places = [flat[:, y : y + 32, x : x + 32] for y in range(9) for x in range(19)]
        assert any(torch.equal(t, place) for t in turned for place in places)
        seen += 1
    assert seen
    assert torch.equal(epoch(batches, 2, 0), crops)
    assert not torch.equal(epoch(batches, 2, 1), crops)


def test_all_of_an_image_is_used_in_the_long_run() -> None:
    image = np.zeros((1, 40, 44), np.uint8)
    image[0] = np.arange(44)
    batches = RandomCrops(Part([image]), 33)
    values = torch.cat([epoch(batches, 1, seed) for seed in range(300)])
    assert values.min() == 0
    assert values.max() == 43


def test_validation_sees_squares_side_by_side() -> None:
    images = [np.arange(70 * 100, dtype=np.uint8).reshape(1, 70, 100), np.zeros((1, 33, 33), np.uint8)]
    squares = validation_batch(Part(images), 32, 1000, CPU).images
    assert squares.shape == (2 * 3 + 1, 1, 32, 32)
    assert torch.equal(squares[1], torch.from_numpy(images[0][:, :32, 32:64]))


def test_whole_images_come_once_an_epoch(digits: np.ndarray) -> None:
    batches = training_batches(Part(digits[:50, np.newaxis]), 0, CPU)
    assert isinstance(batches, WholeImages)
    seen = epoch(batches, 8, 0)
    assert sorted(map(bytes, seen.numpy())) == sorted(map(bytes, digits[:50, np.newaxis]))


def test_colour_photographs_of_any_size_run_from_end_to_end(cli: Cli, tmp_path: Path, photos: list[np.ndarray]) -> None:
    write_photos(tmp_path / "mine", photos)
    options = ("--dataset", "mine", "--channels", 3, "--model", "resunet", "--size", "s", "--crop", 48, "--epochs", 3)
    done = cli("run", *options, "--batch-size", 2, "--name", "colour", "--allow-worse")
    assert (done.code, done.err) == (0, ""), done
    folder = tmp_path / "artifacts" / "colour"
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    noisy = np.random.default_rng(0).random((2, 3, 37, 50), np.float32)
    assert session.run(["denoised"], {"noisy": noisy})[0].shape == noisy.shape
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["models"][0]["input"]["shape"] == ["batch", 3, "height", "width"]
    with Image.open(folder / "samples" / "0_denoised.png") as sample:
        assert sample.mode == "RGB"
    (run,) = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").search_runs(["0"])
    assert run.info.run_name == "resunet-s-mine-var0.01-seed0-rgb"


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        (0, "the training images differ in size; train on random crops of them, such as --crop 64"),
        (100, "--crop 100 is larger than the smallest image, which has"),
    ],
)
def test_images_that_do_not_fit_into_a_batch_are_refused(
    crop: int, message: str, tmp_path: Path, photos: list[np.ndarray]
) -> None:
    write_photos(tmp_path / "mine", photos, side=90)
    data = prepare(Config(dataset=str(tmp_path / "mine"), data_dir=str(tmp_path), channels=3))
    for make in (training_batches, lambda part, crop, device: validation_batch(part, crop, 1000, device)):
        with pytest.raises(PipelineError) as error:
            make(data.train, crop, CPU)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_a_crop_that_is_too_small_is_refused() -> None:
    options = {**asdict(Config()), "crop": 8}
    with pytest.raises(PipelineError, match="--crop 8 is too small; allowed: 0 for whole images, or"):
        Config(**options)


def test_a_mix_of_gray_and_colour_is_refused_in_colour_and_fine_in_gray(
    tmp_path: Path, photos: list[np.ndarray]
) -> None:
    write_photos(tmp_path / "mine", photos)
    Image.open(tmp_path / "mine" / "3.png").convert("L").save(tmp_path / "mine" / "3.png")
    mine = Config(dataset=str(tmp_path / "mine"), data_dir=str(tmp_path / "data"))
    with pytest.raises(PipelineError, match=r"3\.png: it is a gray image, which cannot become colour"):
        prepare(replace(mine, channels=3))
    with pytest.raises(PipelineError, match=r"0\.png has 3 channels .* 3\.png has 1 .*; with --channels 1 all become"):
        prepare(mine)
    prepare(replace(mine, channels=1))
    with pytest.raises(PipelineError, match=r"--channels 3: the images of mnist are gray"):
        prepare(Config(channels=3, data_dir=str(tmp_path / "data")))
