"""Every metric against its formula or another implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.data.images import Levels, psnr_of_error
from pipeline.denoising.command import _psnr as psnr_of_denoise
from pipeline.scoring import metrics
from pipeline.scoring.metrics import METRICS, psnr
from pipeline.scoring.score import means
from pipeline.verification.outputs import psnr_between


def images(count: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def test_metrics_are_taken_per_image() -> None:
    clean, errors = images(), torch.tensor([0.01, 0.1, 0.5]).reshape(3, 1, 1, 1)
    assert METRICS["mse"](clean + errors, clean).tolist() == pytest.approx([1e-4, 1e-2, 0.25], rel=1e-4)
    assert METRICS["psnr"](clean + errors, clean).tolist() == pytest.approx([40, 20, 6.0206], rel=1e-4)
    ssim = METRICS["ssim"](torch.cat([clean[:2], 1 - clean[2:]]), clean)
    assert ssim[:2].tolist() == pytest.approx([1, 1])
    assert ssim[2] < 0


@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (2, 1, 11, 11), (2, 3, 41, 57), (1, 1, 6, 300), (1, 3, 129, 70)])
def test_psnr_and_ssim_are_those_of_torchmetrics(shape: tuple[int, ...]) -> None:
    from torchmetrics.functional import image

    random = torch.Generator().manual_seed(0)
    clean = torch.rand(shape, generator=random)
    other = (clean + 0.1 * torch.randn(shape, generator=random)).clamp(0, 1)
    flat = torch.rand(shape[:2], generator=random)[..., None, None].expand(shape)  # no variance: where rounding shows
    for one, two in ((other, clean), (1 - clean, clean), (flat, clean), (clean, clean)):
        ssim = image.structural_similarity_index_measure(one, two, data_range=1.0, reduction="none")
        assert METRICS["ssim"](one, two).tolist() == pytest.approx(ssim.reshape(-1).tolist(), abs=1e-5)  # type: ignore[union-attr]
    wanted = image.peak_signal_noise_ratio(other, clean, data_range=1.0, reduction="none", dim=(1, 2, 3))
    assert METRICS["psnr"](other, clean).tolist() == pytest.approx(wanted.tolist(), abs=1e-4)


def test_windows_are_the_same_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.rand(1, 67, 45, generator=torch.Generator().manual_seed(0))
    whole = metrics._means(maps)
    for block in (1, 7, 33):
        monkeypatch.setattr(metrics, "_BLOCK", block)
        assert torch.allclose(metrics._means(maps), whole, rtol=0, atol=1e-6)


def test_psnr_is_one_formula_wherever_it_is_taken() -> None:
    """`verify` is copied into hand-offs and stands alone, and `denoise` works without torch."""
    clean = images(1)
    for spread in (0.0, 1e-6, 0.003, 0.1, 0.7):
        noisy = (clean + spread * (images(1, seed=1) - 0.5)).clamp(0, 1)
        here = psnr(noisy, clean).item()
        assert psnr_of_denoise(noisy.numpy(), clean.numpy(), Levels(1)) == pytest.approx(here, abs=1e-4)
        assert min(psnr_between(noisy.numpy(), clean.numpy()), 100) == pytest.approx(here, abs=1e-4)
        error = (noisy.double() - clean.double()).square().mean().item()
        assert psnr_of_error(error) == pytest.approx(min(100, -10 * math.log10(max(error, 1e-10))), abs=1e-9)


def test_psnr_keeps_the_type_and_a_nan() -> None:
    errors = np.array([0.01, 0.0, math.nan], np.float32)
    found = psnr_of_error(errors)
    assert found.dtype == np.float32
    assert found[:2].tolist() == pytest.approx([20, 100], rel=1e-6)  # the last bit depends on the processor
    assert np.isnan(found[2])


def test_means_of_psnr_and_psnr_of_the_mean_differ() -> None:
    found = means({"mse": np.array([0.1, 0.001]), "psnr": np.array([10.0, 30.0])})
    assert found == {"mse": pytest.approx(0.0505), "psnr": 20, "psnr_pooled": pytest.approx(-10 * math.log10(0.0505))}
    assert "psnr_pooled" not in means({"ssim": np.array([1.0])})
