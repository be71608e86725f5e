"""What the released models do to pictures that they were not trained on, by `denoise` without a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from conftest import PROJECT, run_cli
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import maximum_filter

from pipeline.denoising.familiarity import ADVICE

SIDE = 192
SIGMA = {"sky": 10}  # of 255; 25 for the others
Pictures = dict[str, np.ndarray]  # by name, uint8 [H, W] or [H, W, 3]


def crop(name: str, top: int, left: int) -> np.ndarray:
    return getattr(skimage.data, name)()[top : top + SIDE, left : left + SIDE]


def letters() -> np.ndarray:
    """Black letters of 12 pixels on white."""
    image = Image.new("L", (SIDE, SIDE), 255)
    for top in range(0, SIDE, 16):
        ImageDraw.Draw(image).text((4, top), "Quick brown fox 1lI 0O8B", 0, ImageFont.load_default(12))
    return np.asarray(image)


@pytest.fixture(scope="module")
def clean() -> Pictures:
    camera = crop("camera", 60, 150)
    return {
        "cat": crop("chelsea", 40, 100),
        "face": crop("astronaut", 20, 140),
        "camera": camera,
        "camera in colour": np.repeat(camera[..., np.newaxis], 3, axis=-1),
        "letters": letters(),
        "sky": crop("hubble_deep_field", 430, 480),
    }


@pytest.fixture(scope="module")
def noisy(clean: Pictures) -> Pictures:
    """White noise, in all channels the same where they are equal, stored in 8 bits."""
    found = {}
    for name, pixels in clean.items():
        shape = (*pixels.shape[:2], 1) if name == "camera in colour" else pixels.shape
        noise = SIGMA.get(name, 25) * np.random.default_rng(0).standard_normal(shape)
        found[name] = np.rint((pixels + noise).clip(0, 255)).astype(np.uint8)
    return found


@pytest.fixture(scope="module")
def denoised(clean: Pictures, noisy: Pictures, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pictures, Pictures]:
    """The clean and the noisy pictures, denoised in one call."""
    folder = tmp_path_factory.mktemp("released")
    for kind, pictures in (("clean", clean), ("noisy", noisy)):
        (folder / "in" / kind).mkdir(parents=True)
        for name, pixels in pictures.items():
            Image.fromarray(pixels).save(folder / "in" / kind / f"{name}.png")
    done = run_cli("denoise", folder / "in", "--output", folder / "out", cwd=folder)
    assert (done.code, done.err) == (0, ""), done
    assert "photo-gray: 6 files" in done.out
    assert "photo-color: 6 files" in done.out
    from_clean, from_noisy = (
        {name: np.asarray(Image.open(folder / "out" / kind / f"{name}.png")) for name in clean}
        for kind in ("clean", "noisy")
    )
    return from_clean, from_noisy


def test_only_the_model_of_digits_warns_of_photographs(noisy: Pictures, tmp_path: Path) -> None:
    """Those for photographs do not, as `denoised` shows."""
    Image.fromarray(noisy["camera"]).save(tmp_path / "camera.png")
    handoff = PROJECT / "artifacts" / "mnist-blind"
    digits = sorted((handoff / "samples").glob("*_noisy.png"))
    done = run_cli("denoise", "--model", handoff, "camera.png", *digits, "--output", "out", cwd=tmp_path)
    assert (done.code, len(digits)) == (0, 10)
    assert done.err == f"warning: camera.png: {ADVICE}\n"


def psnr(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(-10 * np.log10(np.square(found / 255 - wanted / 255).mean()))


@pytest.mark.parametrize("name", ["cat", "face", "camera", "camera in colour"])
def test_a_clean_photograph_is_given_back(name: str, clean: Pictures, denoised: tuple[Pictures, Pictures]) -> None:
    assert psnr(denoised[0][name], clean[name]) >= 42


@pytest.mark.parametrize(
    ("name", "least"), [("cat", 9), ("face", 10), ("camera", 8), ("camera in colour", 8), ("letters", 1), ("sky", 3)]
)
def test_a_noisy_picture_gains(
    name: str, least: float, clean: Pictures, noisy: Pictures, denoised: tuple[Pictures, Pictures]
) -> None:
    gain = psnr(denoised[1][name], clean[name]) - psnr(noisy[name], clean[name])
    assert gain >= least


def test_gray_stays_gray(denoised: tuple[Pictures, Pictures]) -> None:
    for pictures in denoised:
        pixels = pictures["camera in colour"]
        assert (pixels == pixels[..., :1]).all()
        np.testing.assert_array_equal(pixels[..., 0], pictures["camera"])


def test_letters_can_be_read(clean: Pictures, denoised: tuple[Pictures, Pictures]) -> None:
    """Made black and white again, few pixels are others than before: those at the edges of the letters."""
    for pictures in denoised:
        assert np.corrcoef(pictures["letters"].ravel(), clean["letters"].ravel())[0, 1] > 0.97
        wrong = (pictures["letters"] > 127) != (clean["letters"] > 127)
        assert wrong.mean() < 0.02


def test_stars_keep_their_brightness(clean: Pictures, denoised: tuple[Pictures, Pictures]) -> None:
    """The peaks above the sky, of all that are brighter than a third of white."""
    sky = clean["sky"].mean(axis=-1)
    dark = np.median(sky)
    stars = (sky == maximum_filter(sky, 7)) & (sky > 85)
    assert stars.sum() > 20
    for pictures in denoised:
        kept = (maximum_filter(pictures["sky"].mean(axis=-1), 3)[stars] - dark) / (sky[stars] - dark)
        assert np.median(kept) == pytest.approx(1, abs=0.05)
        assert np.percentile(kept, 10) > 0.8
