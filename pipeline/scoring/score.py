"""Scoring denoisers on the same noisy images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.data.batches import EVALUATION_BATCH
from pipeline.data.images import Images, psnr_of_error, to_images
from pipeline.denoising.tiling import TILE, tiled
from pipeline.models.facts import halo
from pipeline.noise import Noise
from pipeline.scoring.metrics import Metric

TEST_NOISE_SEED = 20_000_003

# Stored with every result: a value in dB means nothing without it.
PROTOCOL: dict[str, Any] = {
    "data_range": 1.0,
    "input_clipped": "no, except for noises whose label ends in -clipped",
    "output_clipped_to": [0.0, 1.0],
    "mode": "eval",
    "psnr": "mean over images of the PSNR of each image, in dB; at most 100",
    "psnr_pooled": "PSNR of the mean over images of the mean squared error, in dB; at most 100",
    "ssim": "mean over images; 11x11 Gaussian window, sigma 1.5; of each channel, then their mean",
    "noise": f"image i is drawn on the CPU from torch.Generator seeded with {TEST_NOISE_SEED} + i",
}

Denoiser = Callable[[torch.Tensor], torch.Tensor]
"""Noisy images to denoised images, both float32 [N, C, H, W] on the CPU."""

Scores = dict[str, dict[str, np.ndarray]]
"""The value of every metric for every image, by denoiser: `{denoiser: {metric: float64 [N]}}`."""


def identity(noisy: torch.Tensor) -> torch.Tensor:
    """The noisy image itself: what has to be beaten."""
    return noisy


def clipped(noisy: torch.Tensor) -> torch.Tensor:
    """The noisy image clipped to [0, 1]: the least that anyone would do."""
    return noisy.clamp(0, 1)


def model_denoiser(model: nn.Module, device: torch.device) -> Denoiser:
    """The model in eval mode, with its output clipped to [0, 1]; large images go through it in tiles."""
    model.eval()

    @cache
    def halo_of(channels: int) -> int:
        return halo(model, channels)

    @torch.no_grad()
    def run(part: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(part).to(device)).cpu().numpy()

    def denoise(noisy: torch.Tensor) -> torch.Tensor:
        small = max(noisy.shape[-2:]) <= TILE
        pixels = noisy.numpy()
        return torch.from_numpy(run(pixels) if small else tiled(run, pixels, halo_of(noisy.shape[1]))).clamp(0, 1)

    return denoise


def noisy_copy(pixels: np.ndarray, index: int, noise: Noise) -> tuple[torch.Tensor, torch.Tensor]:
    """Image number `index` and its noisy copy, float32 [1, C, H, W], from uint8 [C, H, W].

    An image always gets the same noise, whatever the batch size, the device and the number of images.
    """
    clean = to_images(torch.tensor(pixels))[None]  # a copy: the array may be read-only
    return clean, _draw(clean, index, noise)


def _draw(clean: torch.Tensor, index: int, noise: Noise) -> torch.Tensor:
    return noise(clean, torch.Generator().manual_seed(TEST_NOISE_SEED + index))


def noisy_batches(images: Images, noise: Noise) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of clean and noisy images, float32 [n, C, H, W], from uint8 images; of several sizes, one by one."""
    size = 1 if isinstance(images, list) else EVALUATION_BATCH
    for start in range(0, len(images), size):
        clean = to_images(torch.tensor(np.stack(list(images[start : start + size]))))
        noisy = torch.empty_like(clean)
        for place in range(len(clean)):
            noisy[place] = _draw(clean[place : place + 1], start + place, noise)[0]
        yield clean, noisy


def score(images: Images, noise: Noise, denoisers: Mapping[str, Denoiser], metrics: Mapping[str, Metric]) -> Scores:
    """The value of every metric for every image and denoiser.

    Args:
        images: clean, uint8 [N, C, H, W], or a list of [C, H, W].
        noise: added to the images as in `noisy_batches`.
        denoisers: to score, by name.
        metrics: by name, such as `pipeline.scoring.metrics.METRICS`.
    """
    values: dict[str, dict[str, list[np.ndarray]]] = {name: {metric: [] for metric in metrics} for name in denoisers}
    for clean, noisy in noisy_batches(images, noise):
        for name, denoise in denoisers.items():
            denoised = denoise(noisy)
            for metric, function in metrics.items():
                values[name][metric].append(function(denoised, clean).double().numpy())
    return {name: {key: np.concatenate(parts) for key, parts in of.items()} for name, of in values.items()}


def means(scores: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The mean of every metric over the images, and the PSNR of their mean squared error (`psnr_pooled`)."""
    result = {metric: float(values.mean()) for metric, values in scores.items()}
    if "mse" in scores:
        result["psnr_pooled"] = float(psnr_of_error(scores["mse"].mean()))
    return result
