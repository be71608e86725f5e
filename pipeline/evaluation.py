"""Scoring denoisers on the same noisy images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.metrics import Metric
from pipeline.noise import Noise
from pipeline.training import EVALUATION_BATCH, to_images

TEST_NOISE_SEED = 20_000_003

# Stored with every result: a figure in dB means nothing without it.
PROTOCOL: dict[str, Any] = {
    "data_range": 1.0,
    "input_clipped": False,
    "output_clipped_to": [0.0, 1.0],
    "mode": "eval",
    "psnr": "mean over images of the PSNR of each image, in dB",
    "ssim": "mean over images; 11x11 Gaussian window, sigma 1.5",
    "noise": f"image i is drawn on the CPU from torch.Generator seeded with {TEST_NOISE_SEED} + i",
}

Denoiser = Callable[[torch.Tensor], torch.Tensor]
"""Noisy images to denoised images, both float32 [N, 1, H, W] on the CPU."""


def identity(noisy: torch.Tensor) -> torch.Tensor:
    """The noisy image itself, as drawn: what has to be beaten."""
    return noisy


def clipped(noisy: torch.Tensor) -> torch.Tensor:
    """The noisy image, clipped to [0, 1]: the least that anyone would do."""
    return noisy.clamp(0, 1)


def model_denoiser(model: nn.Module, device: torch.device) -> Denoiser:
    """The model, in eval mode, with its output clipped to [0, 1]."""
    model.eval()

    @torch.no_grad()
    def denoise(noisy: torch.Tensor) -> torch.Tensor:
        return model(noisy.to(device)).cpu().clamp(0, 1)

    return denoise


def noisy_batches(pixels: np.ndarray, noise: Noise) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of clean and noisy images, float32 [n, 1, H, W], from uint8 [N, 1, H, W].

    Image i always gets the same noise, whatever the batch size, the device and the number of images.
    """
    generator = torch.Generator()
    for start in range(0, len(pixels), EVALUATION_BATCH):
        clean = to_images(torch.from_numpy(pixels[start : start + EVALUATION_BATCH]))
        noisy = [
            noise(image[None], generator.manual_seed(TEST_NOISE_SEED + start + index))
            for index, image in enumerate(clean)
        ]
        yield clean, torch.cat(noisy)


def score(
    pixels: np.ndarray, noise: Noise, denoisers: Mapping[str, Denoiser], metrics: Mapping[str, Metric]
) -> dict[str, dict[str, float]]:
    """The mean of every metric over all images, for every denoiser: `{denoiser: {metric: mean}}`.

    Args:
        pixels: clean images, uint8 [N, 1, H, W].
        noise: added to them as `noisy_batches` does.
        denoisers: what is scored, by name.
        metrics: such as `pipeline.metrics.METRICS`.
    """
    totals = {name: dict.fromkeys(metrics, 0.0) for name in denoisers}
    for clean, noisy in noisy_batches(pixels, noise):
        for name, denoise in denoisers.items():
            images = denoise(noisy)
            for metric, function in metrics.items():
                totals[name][metric] += function(images, clean).double().sum().item()
    return {name: {metric: total / len(pixels) for metric, total in values.items()} for name, values in totals.items()}
