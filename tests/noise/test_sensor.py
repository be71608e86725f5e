"""The noise of cameras: its figures against published ones, and its JPEG against a library's."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.noise import make_noise
from pipeline.noise.jpeg import compressed


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramps(count: int, channels: int = 3) -> torch.Tensor:
    """Smooth images with all levels."""
    return torch.linspace(0.05, 0.95, 96).expand(count, channels, 96, 96)


def test_the_noise_is_like_that_of_real_photographs() -> None:
    """Bounds: of the residuals of real pairs against the mean of many shots (Xu et al. 2018, Nam et al. 2016).

    There, the standard deviation in green is 1.8 to 5.4 of 255, the median 3.2; the medians of the correlation to the
    next pixel are 0.62 in green and 0.73 in red, and 0.65 between red and green.
    """
    clean = ramps(96)
    noise = 255 * (make_noise("sensor")(clean, seeded()) - clean)
    deviations = noise[:, 1].std(dim=(1, 2))
    assert 1.5 < deviations.median() < 4
    assert 0.5 < deviations.min() < 1.8
    assert 5.4 < deviations.max() < 15
    assert 0.5 < _median(_correlation(image[1, :, 1:], image[1, :, :-1]) for image in noise) < 0.75
    assert 0.6 < _median(_correlation(image[0, :, 1:], image[0, :, :-1]) for image in noise) < 0.85
    assert 0.3 < _median(_correlation(image[0], image[1]) for image in noise) < 0.75
    middle, end = noise[:, 1, :, 40:56].std(), noise[:, 1, :, -8:].std()
    assert middle > 1.5 * end, "it is strongest in the middle tones"
    assert noise.mean().abs() < 0.5


@pytest.mark.parametrize("channels", [1, 3])
def test_what_comes_out_is_a_stored_picture(channels: int) -> None:
    clean = ramps(5, channels)
    stored = make_noise("sensor")(clean, seeded(1))
    assert stored.shape == clean.shape
    assert torch.allclose(255 * stored, (255 * stored).round(), atol=1e-4)
    assert stored.min() >= 0
    assert stored.max() <= 1


def test_little_light_gives_more_noise_than_much_light() -> None:
    clean = ramps(16)
    errors = [(make_noise(f"sensor:shot={shot}")(clean, seeded()) - clean).std() for shot in (1e-4, 1e-3, 1e-2)]
    assert errors[2] > 2 * errors[1] > 2 * errors[0]


def test_other_channels_are_refused() -> None:
    with pytest.raises(PipelineError, match="1 or 3 channels; these have 2"):
        make_noise("sensor")(torch.zeros(1, 2, 8, 8), seeded())


@pytest.mark.parametrize(("quality", "halved"), [(60, False), (60, True), (90, False), (90, True)])
def test_jpeg_is_that_of_a_codec(photograph: np.ndarray, quality: int, halved: bool) -> None:
    """The differences come from the codec's arithmetic, in integers; they are small beside what JPEG itself changes."""
    file = io.BytesIO()
    Image.fromarray(photograph).save(file, "JPEG", quality=quality, subsampling=2 if halved else 0)
    codec = np.asarray(Image.open(file)).astype(float)
    images = torch.from_numpy(photograph.transpose(2, 0, 1))[None].double() / 255
    ours = 255 * compressed(images, torch.full((1, 1, 1, 1), quality), halved)[0].numpy().transpose(1, 2, 0)
    changed = np.sqrt(np.square(codec - photograph).mean())
    assert np.sqrt(np.square(ours - codec).mean()) < 0.35 * changed
    assert np.sqrt(np.square(ours - photograph).mean()) == pytest.approx(changed, rel=0.03)


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """uint8 [147, 201, 3]: sides that are no multiple of a block."""
    from skimage import data

    return data.astronaut()[60:207, 120:321]


def _median(values) -> float:  # type: ignore[no-untyped-def]
    return float(np.median([*values]))


def _correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    return torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].item()
