"""Pictures unlike those that a model was trained on: told apart by what was removed from them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import Cli, Trained
from PIL import Image

from pipeline.denoising.familiarity import ADVICE, LEAST, Limits
from pipeline.denoising.model import open_model
from pipeline.handoff.mlflow_loader import GuardedModel

SIGMA = 0.1
RNG = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RNG.normal(0, SIGMA, shape).astype(np.float32)


@pytest.mark.parametrize("height", [40, 255, 256, 257, 600])
def test_white_noise_is_familiar_and_structure_is_not(height: int) -> None:
    """At every place of a picture, however it is cut into parts."""
    limits, clean = Limits(0.05, 0.2), np.full((1, 2, height, 50), 0.5, np.float32)
    noisy = clean + noise(*clean.shape)
    assert not limits.are_exceeded(noisy, clean)
    lines = np.where(np.arange(height) // 4 % 2, SIGMA, -SIGMA).astype(np.float32)[:, None]
    assert limits.are_exceeded(noisy, clean + lines)
    assert limits.are_exceeded(noisy, clean + lines.max())  # brighter all over


def test_the_correlation_is_that_of_the_whole_picture() -> None:
    """Computed by hand; the limit is moved to just below and just above it."""
    removed = noise(1, 3, 600, 30)
    removed += np.roll(removed, 1, axis=2)
    pairs = removed[..., 1:].size + removed[..., 1:, :].size
    products = (removed[..., 1:] * removed[..., :-1]).sum() + (removed[..., 1:, :] * removed[..., :-1, :]).sum()
    lowest = products / pairs / np.square(removed).mean() - 3 / pairs**0.5
    assert lowest > 0.2
    for step in (-1e-3, 1e-3):
        limits = Limits(lowest + step, 1)  # what is below 0 or above 1 was not clipped
        assert limits.are_exceeded(2 + removed, np.full_like(removed, 2)) == (step < 0)


def test_limits_are_those_of_the_test_images_with_and_without_clipping() -> None:
    dark = noise(257, 1, 28, 28)
    limits = Limits.of(dark, np.zeros_like)
    assert -0.05 < limits.unclipped < 0.15
    assert 0.3 < limits.clipped < 0.5  # half of a normal distribution, whose mean squared is 1/pi of its power
    assert str(Limits.parse(str(limits))) == str(limits)
    assert not limits.are_exceeded(dark[:1], np.zeros_like(dark[:1]))
    assert not limits.are_exceeded(dark[:1].clip(0, 1), np.zeros_like(dark[:1]))


def test_pictures_are_judged_one_by_one() -> None:
    limits, clean = Limits(0.05, 0.2), np.full((3, 1, 40, 50), 0.5, np.float32)
    noisy = clean + noise(*clean.shape)
    noisy[2] = 0.9  # brighter all over
    clean[0] = noisy[0]
    assert limits.are_exceeded(noisy, clean).tolist() == [False, False, True]


def test_what_cannot_be_seen_or_has_no_neighbours_is_no_reason_to_warn() -> None:
    limits, gray = Limits(0, 0), np.full((1, 1, 20, 20), 0.5, np.float32)
    assert not limits.are_exceeded(gray, gray)
    assert not limits.are_exceeded(gray + 0.9 * LEAST, gray)
    assert limits.are_exceeded(gray + 1.1 * LEAST, gray)
    assert not limits.are_exceeded(gray[..., :1, :1] + 0.1, gray[..., :1, :1])


@pytest.fixture
def pictures(tmp_path: Path, digits: np.ndarray) -> tuple[Path, Path]:
    """Folders of noisy digits, and of what no digit looks like."""
    known, strange = tmp_path / "known", tmp_path / "strange"
    for folder in (known, strange):
        folder.mkdir()
    for number, digit in enumerate(digits[-40:]):
        noisy = (digit / 255 + noise(28, 28)).clip(0, 1)
        Image.fromarray(np.rint(255 * noisy).astype(np.uint8)).save(known / f"{number}.png")
    stripes = np.tile(np.repeat([200, 255], 6), (90, 8)).astype(np.uint8)  # bright, as no digit is
    for name, picture in {"page.png": stripes, "white.jpg": np.full((50, 60), 250, np.uint8)}.items():
        Image.fromarray(picture).save(strange / name)
    np.save(strange / "floats.npy", stripes / 255 + noise(*stripes.shape))
    return known, strange


def test_denoise_warns_of_every_strange_file_and_strict_leaves_it_out(
    trained: Trained, cli: Cli, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    known, strange = pictures
    done = cli("denoise", "--model", trained.handoff, known, "--output", "out", "--strict")
    assert (done.code, done.err) == (0, "")
    done = cli("denoise", "--model", trained.handoff, strange, "--output", "out")
    names = ["floats.npy", "page.png", "white.jpg"]
    assert done.err.splitlines() == [f"warning: {strange / name}: {ADVICE}" for name in names]
    assert done.code == 0
    done = cli("denoise", "--model", trained.handoff, known / "0.png", strange, "--output", "strict", "--strict")
    assert done.err.splitlines()[:3] == [f"skipped {strange / name}: {ADVICE}" for name in names]
    assert done.code == 1
    assert [path.name for path in (tmp_path / "strict").iterdir() if not path.name.startswith(".")] == ["0.png"]


def test_a_file_that_says_nothing_is_not_judged(
    trained: Trained, cli: Cli, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    """As those that were exported earlier."""
    proto = onnx.load(trained.handoff / "model.onnx")
    kept = [prop for prop in proto.metadata_props if prop.key != "removed_correlation"]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    onnx.save(proto, tmp_path / "older.onnx")
    done = cli("denoise", "--model", tmp_path / "older.onnx", pictures[1], "--output", "out", "--strict")
    assert (done.code, done.err) == (0, "")


def test_the_model_in_mlflow_warns_of_the_same_images(
    trained: Trained, pictures: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    (logged,) = (trained.cwd / "mlruns").rglob("MLmodel")
    served, opened = GuardedModel(str(logged.with_name("model.onnx"))), open_model(trained.handoff / "model.onnx")
    images = np.stack([np.asarray(Image.open(path)) for path in sorted(pictures[0].iterdir())])[:, None] / 255
    images = np.concatenate([images, 1 - images, images + noise(*images.shape)]).astype(np.float32)
    with caplog.at_level(logging.WARNING, "mlflow.denoiser"):
        served.predict({"noisy": images})
    judged = opened.are_strange([*images], [*opened.run(images)], images.dtype)
    strange = [number for number, is_strange in enumerate(judged) if is_strange]
    warned = {int(record.getMessage().split()[1]) - 1 for record in caplog.records}
    assert sorted(warned) == strange
    assert set(range(40, 80)) <= set(strange)
