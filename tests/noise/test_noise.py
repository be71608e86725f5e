"""Every kind of noise against its formula, its text form, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.noise import NOISES, Clipped, Noise, describe_noises, make_noise, parse_variance, without_level
from pipeline.noise.ranges import Range

SPECS = [name for name in NOISES if name not in ("camera", "recorded")]  # which cannot be drawn by itself


@pytest.fixture
def clean(digits: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(digits[:200, np.newaxis]).float() / 255


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gray(level: float, count: int = 300) -> torch.Tensor:
    return torch.full((count, 1, 28, 28), level)


@pytest.mark.parametrize("spec", SPECS)
def test_every_kind_keeps_the_type_and_follows_its_generator(spec: str) -> None:
    noise = make_noise(spec)
    for shape in ((3, 1, 28, 28), (2, 3, 11, 17), (1, 1, 1, 1)):
        for dtype in (torch.float32, torch.float64):
            clean = torch.rand(shape, dtype=dtype, generator=seeded())
            kept = clean.clone()
            noisy = noise(clean, seeded(1))
            assert (noisy.shape, noisy.dtype) == (clean.shape, dtype)
            assert torch.equal(clean, kept)
            assert torch.equal(noisy, noise(clean, seeded(1)))
    images = torch.full((2, 1, 28, 28), 0.4)
    first, second = noise(images, seeded(2))
    if spec != "quantization":  # which is no noise in the strict sense
        assert not torch.equal(first, second)
        assert not torch.equal(noise(images, seeded(2)), noise(images, seeded(3)))


@pytest.mark.parametrize(
    ("spec", "variance"),
    [
        ("gaussian:variance=0.02", lambda level: 0.02),
        ("poisson:peak=30", lambda level: level / 30),
        ("poisson-gaussian:shot=0.02,read=0.001", lambda level: 0.02 * level + 0.001),
        ("speckle:variance=0.02", lambda level: 0.02 * level**2),
        ("correlated:variance=0.02,blur=1.2", lambda level: 0.02),
    ],
)
@pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 1.0])
def test_the_variance_is_that_of_the_formula_and_the_mean_is_the_image(spec: str, variance, level: float) -> None:  # type: ignore[no-untyped-def]
    noisy = make_noise(spec)(gray(level), seeded())
    assert noisy.var().item() == pytest.approx(variance(level), rel=0.03, abs=1e-9)
    assert noisy.mean().item() == pytest.approx(level, abs=4 * math.sqrt(variance(level) / 30_000) + 1e-6)
    edge = noisy[..., 0]
    assert edge.var().item() == pytest.approx(variance(level), rel=0.1, abs=1e-9)


def test_gaussian_noise_leaves_the_range_and_is_white(clean: torch.Tensor) -> None:
    noise = make_noise("gaussian", "0.01")(clean, seeded()) - clean
    assert (clean + noise).min() < -0.2
    assert (clean + noise).max() > 1.2
    assert _neighbours(noise) == pytest.approx(0, abs=0.01)


def test_the_published_noise_does_not_change(clean: torch.Tensor) -> None:
    """The figures in the README depend on every bit of it."""
    drawn = make_noise("gaussian", "0.01")(clean, seeded(7))
    assert torch.equal(drawn, torch.empty_like(clean).normal_(0.0, 0.01**0.5, generator=seeded(7)) + clean)


def test_correlated_noise_has_grain() -> None:
    for blur in (0.7, 1.5):
        noise = make_noise(f"correlated:blur={blur}")(gray(0.5), seeded()) - 0.5
        # Two Gaussians of width `blur` that lie a pixel apart overlap by exp(-1 / (4 blur^2)); on pixels, nearly so.
        assert _neighbours(noise) == pytest.approx(math.exp(-1 / (4 * blur**2)), abs=0.03)


@pytest.mark.parametrize(
    "spec", ["gaussian", "poisson", "speckle", "salt-pepper", "poisson-gaussian", "correlated", "sensor"]
)
def test_noise_with_grain_is_told_from_the_rest(spec: str) -> None:
    clean = torch.full((4, 1, 64, 64), 0.5)
    noise = make_noise(spec, "0.01")
    difference = noise(clean, torch.Generator().manual_seed(0)) - clean
    correlation = (difference[..., 1:] * difference[..., :-1]).mean() / difference.square().mean()
    assert noise.has_grain == (correlation > 0.1)
    assert make_noise(f"gaussian+{spec}", "0.01").has_grain == noise.has_grain
    assert make_noise(spec, "0.01", True).has_grain == noise.has_grain


def test_salt_and_pepper_hit_the_share_asked_for() -> None:
    noisy = make_noise("salt-pepper:amount=0.2")(gray(0.5).expand(-1, 3, -1, -1), seeded())
    assert (noisy == 0).float().mean().item() == pytest.approx(0.1, rel=0.03)
    assert (noisy == 1).float().mean().item() == pytest.approx(0.1, rel=0.03)
    assert torch.equal(noisy[:, 0], noisy[:, 2])  # all channels of a pixel


def test_quantization_leaves_so_many_levels(clean: torch.Tensor) -> None:
    assert make_noise("quantization:levels=4")(clean, seeded()).unique().tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_the_images_of_a_batch_take_turns_in_a_mixture(clean: torch.Tensor) -> None:
    noise = make_noise("gaussian:variance=0.0001+salt-pepper:amount=1e-01+poisson")
    assert make_noise(noise.spec) == noise
    assert (noise.label, noise.description) == (
        "0.0001-or-salt-pepper-amount0.1-or-poisson-peak100-10000",
        "gaussian noise of variance 0.0001 (1 in 3 images); or salt-pepper noise (amount 0.1) (1 in 3 images); "
        "or poisson noise (peak 100 to 10000) (1 in 3 images)",
    )
    assert make_noise("sensor+gaussian+gaussian").label == "sensor-or-0.01-x2"
    error = noise(clean, seeded()) - clean
    assert error[::3].std().item() == pytest.approx(0.01, rel=0.02)
    assert set(((error[1::3] != 0).float().mean(dim=(1, 2, 3)) < 0.2).tolist()) == {True}
    assert noise(clean[:1], seeded()).shape == (1, 1, 28, 28)


@pytest.mark.parametrize(("draw", "forth"), [("log", math.log), ("sqrt", math.sqrt), ("uniform", float)])
def test_a_range_is_drawn_for_every_image_as_said(draw: str, forth) -> None:  # type: ignore[no-untyped-def]
    noisy = make_noise(f"gaussian:variance=0.0005:0.1,draw={draw}")(gray(0.5, 4000), seeded())
    drawn = noisy.var(dim=(1, 2, 3)).double()
    assert drawn.min() > 0.0005 * 0.8
    assert drawn.max() < 0.1 * 1.2
    low, high = forth(0.0005), forth(0.1)
    places = torch.tensor([(forth(value) - low) / (high - low) for value in drawn.tolist()])
    for share in (0.25, 0.5, 0.75):
        assert (places < share).float().mean().item() == pytest.approx(share, abs=0.04)


def test_clipping_is_asked_for(clean: torch.Tensor) -> None:
    plain, clipped = make_noise("gaussian", "0.01"), make_noise("gaussian", "0.01", clip=True)
    assert isinstance(clipped, Clipped)
    assert torch.equal(clipped(clean, seeded()), plain(clean, seeded()).clamp(0, 1))
    assert (plain.label, clipped.label) == ("0.01", "0.01-clipped")


def test_a_share_of_the_images_is_clipped() -> None:
    black = torch.zeros(2000, 1, 4, 4)
    noisy = make_noise("gaussian:clip=0.25")(black, seeded())
    plain = make_noise("gaussian")(black, seeded())
    is_clipped = noisy.amin((1, 2, 3)) >= 0
    assert is_clipped.float().mean() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(noisy[~is_clipped], plain[~is_clipped])
    assert torch.equal(noisy[is_clipped], plain[is_clipped].clamp(0, 1))


@pytest.mark.parametrize(
    ("noise", "label", "description"),
    [
        (make_noise("gaussian", "1e-2"), "0.01", "gaussian noise of variance 0.01"),
        (make_noise("gaussian", "0.0005:0.1"), "0.0005-0.1", "gaussian noise of variance 0.0005 to 0.1"),
        (make_noise("poisson:peak=30"), "poisson-peak30", "poisson noise (peak 30)"),
        (make_noise("speckle", "0.04"), "speckle-variance0.04", "speckle noise (variance 0.04)"),
        (make_noise("speckle:variance=0.02", "0.04"), "speckle-variance0.02", "speckle noise (variance 0.02)"),
        (
            make_noise("poisson:peak=30", clip=True),
            "poisson-peak30-clipped",
            "poisson noise (peak 30), clipped to [0, 1]",
        ),
    ],
)
def test_names(noise: Noise, label: str, description: str) -> None:
    assert (noise.label, noise.description) == (label, description)


@pytest.mark.parametrize("spec", [*SPECS, "gaussian:variance=0.0123456789", "poisson:peak=10:100,draw=uniform"])
def test_the_text_form_makes_the_same_noise_again(spec: str) -> None:
    noise = make_noise(spec)
    assert make_noise(noise.spec) == noise


def test_parse_variance() -> None:
    assert parse_variance("0.01") == Range(0.01, 0.01)
    assert parse_variance("0.0005:0.1") == Range(0.0005, 0.1)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("0", ["--variance", "'0'", "above 0 to 100"]),
        ("0.1:0.01", ["--variance", "'0.1:0.01'", "LOW must not be above HIGH"]),
        ("0.1:nan", ["--variance", "'0.1:nan'", "above 0 to 100", "LOW:HIGH"]),
        ("1:2:3", ["--variance", "'1:2:3'", "LOW:HIGH"]),
    ],
)
def test_a_wrong_variance_is_one_line_that_says_what_is_allowed(text: str, parts: list[str]) -> None:
    with pytest.raises(PipelineError) as error:
        parse_variance(text)
    _check_line(str(error.value), parts)


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("gausian", ["--noise", "'gausian'", "did you mean 'gaussian'"]),
        ("poisson:pek=3", ["'pek'", "peak, draw", "did you mean 'peak'"]),
        ("poisson:peak", ["'peak'", "key=value"]),
        ("poisson:peak=0", ["poisson", "peak 0", "above 0"]),
        ("poisson:peak=-1", ["poisson: peak", "'-1'", "from 0"]),
        ("quantization:levels=1", ["levels 1", "2 or more"]),
        ("salt-pepper:amount=1.5", ["amount", "'1.5'", "from 0 to 1"]),
        ("speckle:variance=0:1,draw=log", ["variance 0:1", "draw=sqrt"]),
        ("gaussian:draw=logg", ["draw", "'logg'", "did you mean 'log'"]),
        ("gaussian+recorded", ["gaussian+recorded", "goes with no other"]),
        ("sensor:quality=0:50", ["quality 0:50", "from 1 to 100"]),
        ("camera:x", ["darktable", "DARKTABLE_NOISEPROFILES"]),
    ],
)
def test_a_wrong_noise_is_one_line_that_says_what_is_allowed(spec: str, parts: list[str]) -> None:
    with pytest.raises(PipelineError) as error:
        make_noise(spec)
    _check_line(str(error.value), parts)


def _check_line(message: str, parts: list[str]) -> None:
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_every_kind_is_listed_with_its_parameters() -> None:
    listed = describe_noises()
    for name, kind in NOISES.items():
        assert f"\n{name}" in f"\n{listed}"
        assert str(kind.__doc__).splitlines()[0] in listed
    assert "speckle:variance=0.01, draw=sqrt\n" in listed


def test_camera_noise_reads_darktable_s_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = [{"name": f"iso {iso}", "iso": iso, "a": [0, iso * 1e-7, 0], "b": [0, 1e-5, 0]} for iso in (100, 6400)]
    makers = [{"maker": "Acme", "models": [{"model": "One", "profiles": profiles}]}]
    path = tmp_path / "noiseprofiles.json"
    path.write_text(json.dumps({"version": 0, "noiseprofiles": makers}))
    monkeypatch.setenv("DARKTABLE_NOISEPROFILES", str(path))
    noise = make_noise("camera:acme one iso 6400")
    assert make_noise(noise.spec) == noise
    assert noise.label == "camera-acme-one-iso-6400"
    assert noise(gray(0.5), seeded()).var().item() == pytest.approx(6400e-7 * 0.5 + 1e-5, rel=0.03)
    with pytest.raises(PipelineError, match=r"'acme' fits 2 profiles .* 'Acme One ISO 100', 'Acme One ISO 6400'"):
        make_noise("camera:acme")
    path.write_text("{}")
    with pytest.raises(PipelineError, match="cannot read"):
        make_noise("camera:acme one iso 100")


def test_a_kind_is_one_class_and_one_entry(clean: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class DarkNoise(Noise):
        """Takes light away."""

        name = "dark"
        loss: Range = Range(0.5, 0.5)

        def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return clean * (1 - self.loss.values(clean, "uniform", generator))

    monkeypatch.setitem(NOISES, "dark", DarkNoise)
    noise = make_noise("dark:loss=0.25")
    assert torch.equal(noise(clean, seeded()), clean * 0.75)
    assert (noise.label, noise.spec, make_noise(noise.spec)) == ("dark-loss0.25", "dark:loss=0.25", noise)
    assert "dark:loss=0.5\n    Takes light away.\n" in describe_noises()


def _neighbours(noise: torch.Tensor) -> float:
    """Correlation of pixels side by side."""
    pairs = torch.stack([noise[..., 1:].flatten(), noise[..., :-1].flatten()])
    return torch.corrcoef(pairs)[0, 1].item()


@pytest.mark.parametrize(
    ("spec", "same"),
    [
        ("recorded:sigma=0.0985", "recorded"),
        ("recorded:sigma=0.0985 clipped", "recorded clipped"),
        ("gaussian:variance=0.01", "gaussian:variance=0.01"),
    ],
)
def test_recorded_noise_of_a_known_level_is_the_same_noise(spec: str, same: str) -> None:
    assert without_level(spec) == same
