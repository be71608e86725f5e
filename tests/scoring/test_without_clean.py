"""The quality that is estimated without clean images, held against the true one, which the tests know."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pipeline.data.images import Levels, Part, psnr_of_error
from pipeline.noise import make_noise
from pipeline.scoring.evaluation import score_noise
from pipeline.scoring.quality import Quality
from pipeline.scoring.score import Denoiser, clipped, identity
from pipeline.scoring.without_clean import errors_of_scenes, estimated_errors, summarize_errors

RECORDED = make_noise("recorded")
FLOATS = Levels(1)


def gaussian(clean: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return clean + 0.1 * random.standard_normal(clean.shape)


def poisson_gaussian(clean: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return random.poisson(clean * 80) / 80 + 0.03 * random.standard_normal(clean.shape)


def blurred(noisy: torch.Tensor) -> torch.Tensor:
    """Stands for a model: 3x3 means, half mixed with the image."""
    means = torch.nn.functional.avg_pool2d(noisy, 3, 1, 1, count_include_pad=False)
    return (noisy / 2 + means / 2).clamp(0, 1)


def gray(noisy: torch.Tensor) -> torch.Tensor:
    """Stands for a model that has learnt nothing but the mean."""
    return torch.full_like(noisy, noisy.mean().item())


DENOISERS: dict[str, Denoiser] = {"noisy": identity, "clipped": clipped, "denoised": blurred}


def crops() -> np.ndarray:
    """64x64 crops of a photograph, float32 [49, 1, 64, 64]."""
    data = pytest.importorskip("skimage.data")
    image = data.camera().astype(np.float32) / 255
    return np.stack([image[np.newaxis, y : y + 64, x : x + 64] for y in range(0, 448, 64) for x in range(0, 448, 64)])


def bursts(clean: np.ndarray, count: int, noise: Callable[..., np.ndarray]) -> Part:
    random = np.random.default_rng(0)
    scenes = np.repeat(np.arange(len(clean)), count)
    return Part(None, noise(clean[scenes], random).astype(np.float32), scenes, FLOATS)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("noise", [gaussian, poisson_gaussian])
@pytest.mark.parametrize("images", ["digits", "crops"])
def test_the_estimated_psnr_is_the_true_one(
    images: str, noise: Callable[..., np.ndarray], count: int, digits: np.ndarray
) -> None:
    clean = crops() if images == "crops" else digits[:300, np.newaxis].astype(np.float32) / 255
    part = bursts(clean, count, noise)
    assert part.noisy is not None
    summary = score_noise(part, RECORDED, DENOISERS).summary
    assert part.scenes is not None
    noisy, wanted = torch.from_numpy(np.stack(list(part.noisy))), clean[part.scenes]
    for name, denoise in DENOISERS.items():
        true = psnr_of_error(float(np.square(denoise(noisy).numpy() - wanted).mean()))
        found = summary[name]
        assert found["psnr_estimated"] == pytest.approx(true, abs=0.2)
        assert abs(found["psnr_estimated"] - true) < 4 * found["psnr_standard_error"] + 0.02
        assert "psnr" not in found
    quality = Quality.of(summary)
    assert quality.is_better == (summary["denoised"]["psnr_estimated"] > summary["clipped"]["psnr_estimated"])
    assert "standard error" in quality.text


def test_the_standard_error_is_that_of_scenes() -> None:
    """The spread of the estimates over many sets of scenes is what each of them says of itself."""
    random = np.random.default_rng(1)
    found = []
    for _ in range(40):
        clean = random.random((25, 1, 16, 16)).astype(np.float32)
        scenes = np.repeat(np.arange(25), 3)
        part = Part(None, gaussian(clean[scenes], random).astype(np.float32), scenes, FLOATS)
        found.append(score_noise(part, RECORDED, DENOISERS).summary["denoised"])
    spread = np.std([summary["psnr_estimated"] for summary in found])
    assert np.mean([summary["psnr_standard_error"] for summary in found]) == pytest.approx(spread, rel=0.35)


def test_an_error_too_small_to_be_estimated_is_a_lower_bound_in_words() -> None:
    """A denoiser that returns the truth: its estimated error is zero but for chance."""
    clean = np.full((12, 1, 16, 16), 0.5, np.float32)
    words = set()
    for seed in range(8):
        scenes = np.repeat(np.arange(12), 2)
        noisy = gaussian(clean[scenes], np.random.default_rng(seed)).astype(np.float32)
        part = Part(None, noisy, scenes, FLOATS)
        exact = {**DENOISERS, "denoised": lambda noisy: torch.full_like(noisy, 0.5)}
        quality = Quality.of(score_noise(part, RECORDED, exact).summary)
        assert quality.is_better
        assert 25 < quality.output < 100
        words.add(quality.note.split(":")[0].split(" 0")[0])
    assert "the error is too small to be estimated" in words


def test_scenes_with_a_single_capture_do_not_count_and_a_single_scene_has_no_error() -> None:
    noisy = np.random.default_rng(0).random((5, 1, 12, 12)).astype(np.float32)
    part = Part(None, noisy, np.array([0, 0, 1, 2, 2]), FLOATS)
    errors = estimated_errors(part, RECORDED, {"denoised": clipped})["denoised"]
    assert np.isfinite(errors).tolist() == [True, True, False, True, True]
    assert part.scenes is not None
    assert len(errors_of_scenes(errors, part.scenes)) == 2
    one = summarize_errors(errors[:2], part.scenes[:2])
    assert set(one) == {"mse_estimated", "psnr_estimated"}
    identical = Part(None, np.repeat(noisy[:1], 3, axis=0), np.zeros(3, int), FLOATS)
    summary = score_noise(identical, RECORDED, DENOISERS | {"denoised": identity}).summary
    assert Quality.of(summary).text.startswith("estimated PSNR not known")  # and not 100 dB


@pytest.mark.parametrize("images", ["digits", "crops"])
@pytest.mark.parametrize("noise", [gaussian, poisson_gaussian])
def test_single_noisy_images_have_levels_and_no_psnr(
    images: str, noise: Callable[..., np.ndarray], digits: np.ndarray
) -> None:
    clean = crops() if images == "crops" else digits[:500, np.newaxis].astype(np.float32) / 255
    noisy = noise(clean, np.random.default_rng(0)).astype(np.float32)
    part = Part(None, noisy, np.arange(len(noisy)), FLOATS)
    truth = iter(torch.from_numpy(clean))
    exact: Denoiser = lambda noisy: torch.stack([*itertools.islice(truth, len(noisy))])  # noqa: E731
    good = score_noise(part, RECORDED, {**DENOISERS, "denoised": exact}).summary
    assert set(good["denoised"]) == {"sigma", "contrast", "removed", "whiteness"}
    if noise is gaussian:
        assert good["noisy"]["sigma"] == pytest.approx(0.1, rel=0.1)
        assert good["denoised"]["removed"] == pytest.approx(0.1, rel=0.02)
    assert good["denoised"]["whiteness"] < 0.05
    assert Quality.of(good).fault == ""
    assert math.isnan(Quality.of(good).gain)

    for bad, why in ((gray, "image content was removed"), (clipped, "did not go down")):
        summary = score_noise(part, RECORDED, {**DENOISERS, "denoised": bad}).summary
        assert why in Quality.of(summary).fault
        assert "no better than the clipped input" in Quality.of(summary).verdict


def test_a_level_that_is_given_counts_if_it_is_larger_than_the_estimate() -> None:
    """As for noise with grain, which looks weaker than it is."""
    random = np.random.default_rng(0)
    noisy = np.clip(0.5 + 0.1 * random.standard_normal((4, 1, 64, 64)), 0, 1).astype(np.float32)
    part = Part(None, noisy, np.arange(4), FLOATS)
    too_much = {**DENOISERS, "denoised": lambda noisy: torch.full_like(noisy, 0.2)}
    for noise, given, fault in (("recorded", 0.1, True), ("recorded:sigma=0.2", 0.2, False)):
        found = score_noise(part, make_noise(noise), too_much).summary
        assert found["noisy"]["noise"] == pytest.approx(given, rel=0.05)
        assert ("more than twice the estimated noise" in Quality.of(found).fault) is fault
    # An image that is empty but for its noise may well become gray.
    assert Quality.of(score_noise(part, RECORDED, {**DENOISERS, "denoised": gray}).summary).fault == ""
