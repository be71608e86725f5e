"""Image quality, per image. Adding a metric is one function and an entry in `METRICS`."""

from __future__ import annotations

from collections.abc import Callable

import torch

# torchmetrics is imported where it is called: it takes two seconds, which a command that scores nothing need not wait.

Metric = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Takes images and their clean counterparts, float [N, C, H, W], clean pixels in [0, 1]; returns [N]."""

_MAX_PSNR = 100.0  # dB; an error far below one step of 8 bits, or none at all


def mse(images: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Mean squared error per pixel."""
    return (images - clean).square().mean(dim=(1, 2, 3))


def psnr(images: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB, of each image by itself, with data range 1: -10 log10(MSE); at most 100."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    values = peak_signal_noise_ratio(images, clean, data_range=1.0, reduction="none", dim=(1, 2, 3))
    return values.clamp(max=_MAX_PSNR)


def ssim(images: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Structural similarity (Wang et al. 2004): 11x11 Gaussian window of sigma 1.5, data range 1; at most 1."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    values = structural_similarity_index_measure(images, clean, data_range=1.0, reduction="none")
    assert isinstance(values, torch.Tensor)  # a pair only when asked for the full map
    return values.reshape(len(images))


METRICS: dict[str, Metric] = {"mse": mse, "psnr": psnr, "ssim": ssim}
SUMMARIES = (*METRICS, "psnr_pooled")  # what `pipeline.evaluation.means` makes of them
