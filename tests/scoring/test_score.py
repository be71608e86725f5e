"""Scoring: the same noise whatever the batch, the model in eval mode, and the mean of what was found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.data.images import Part
from pipeline.models import build_model
from pipeline.noise import make_noise
from pipeline.scoring.metrics import METRICS
from pipeline.scoring.score import clipped, for_gray, identity, model_denoiser, noisy_batches, noisy_copy, score


def test_test_noise_does_not_depend_on_the_batch_or_the_number_of_images(
    digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = make_noise("gaussian", "0.01")
    images = digits[:40, np.newaxis]
    part = Part(images)
    wanted = torch.cat([noisy for _, noisy in noisy_batches(part, noise)])
    monkeypatch.setattr("pipeline.scoring.score.EVALUATION_BATCH", 7)
    assert torch.equal(torch.cat([noisy for _, noisy in noisy_batches(part, noise)]), wanted)
    assert torch.equal(torch.cat([noisy for _, noisy in noisy_batches(part[:9], noise)]), wanted[:9])
    assert not torch.equal(wanted[0] - torch.from_numpy(images[0] / 255), wanted[1] - torch.from_numpy(images[1] / 255))


def test_images_of_several_sizes_get_the_noise_of_their_number(digits: np.ndarray) -> None:
    noise = make_noise("poisson")
    part = Part([digits[index, np.newaxis, : 28 - index] for index in range(3)])
    for index, (clean, noisy) in enumerate(noisy_batches(part, noise)):
        assert clean.shape == (1, 1, 28 - index, 28)
        again = noisy_copy(part, index, noise)
        assert again[0] is not None
        assert torch.equal(clean, again[0])
        assert torch.equal(noisy, again[1])


def test_every_image_has_a_value_of_every_metric_for_every_denoiser(digits: np.ndarray) -> None:
    images, noise = Part(digits[:12, np.newaxis]), make_noise("gaussian", "0.01")
    found = score(images, noise, {"noisy": identity, "clipped": clipped}, METRICS)
    assert set(found) == {"noisy", "clipped"}
    for of_denoiser in found.values():
        assert {(name, values.shape, values.dtype.name) for name, values in of_denoiser.items()} == {
            (name, (12,), "float64") for name in METRICS
        }
    ((clean, noisy),) = noisy_batches(images, noise)
    wanted = METRICS["ssim"](noisy.clamp(0, 1), clean).double().numpy()
    assert np.array_equal(found["clipped"]["ssim"], wanted)


def test_evaluation_uses_eval_mode(digits: np.ndarray) -> None:
    model = build_model("autoencoder").train()
    denoise = model_denoiser(model, torch.device("cpu"))
    batch = torch.from_numpy(digits[:8, np.newaxis] / np.float32(255))
    # With the statistics of the batch, an image's result would depend on its neighbours.
    assert torch.allclose(denoise(batch)[:1], denoise(batch[:1]), atol=1e-6)


def test_a_model_runs_in_tiles_where_the_image_is_large(digits: np.ndarray) -> None:
    sizes: list[tuple[int, ...]] = []

    class Spy(torch.nn.Conv2d):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sizes.append(tuple(images.shape[-2:]))
            return super().forward(images)

    torch.manual_seed(0)
    model = Spy(1, 1, 5, padding=2)
    wall = torch.from_numpy(np.tile(digits[0], (22, 30))[np.newaxis, np.newaxis] / np.float32(255))  # 616 x 840
    with torch.no_grad():
        whole = model(wall).clamp(0, 1)
    sizes.clear()
    assert torch.allclose(model_denoiser(model, torch.device("cpu"))(wall), whole, atol=1e-6)
    assert max(max(size) for size in sizes) <= 512


def test_a_denoiser_in_colour_takes_gray_images_as_equal_channels() -> None:
    shares = torch.tensor([0.1, 0.3, 0.5]).reshape(1, 3, 1, 1)
    seen: list[torch.Tensor] = []

    def denoise(noisy: torch.Tensor) -> torch.Tensor:
        seen.append(noisy)
        return noisy * shares

    gray = torch.rand(2, 1, 12, 15, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(for_gray(denoise, 3)(gray), 0.3 * gray)
    assert torch.equal(seen[0], gray.repeat(1, 3, 1, 1))
