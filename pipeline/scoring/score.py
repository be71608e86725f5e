"""Scoring denoisers on the same noisy images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.data.batches import EVALUATION_BATCH
from pipeline.data.images import Part, psnr_of_error
from pipeline.denoising.tiling import TILE, tile_side, tiled
from pipeline.errors import PipelineError
from pipeline.models import facts
from pipeline.noise import Noise
from pipeline.scoring.metrics import Metric

TEST_NOISE_SEED = 20_000_003
_BATCH_PIXELS = EVALUATION_BATCH * 784  # of digits, a full batch; of larger images, what fits into memory as well

# Stored with every result: a value in dB means nothing without it.
PROTOCOL: dict[str, Any] = {
    "data_range": 1.0,
    "input_clipped": "no, except for noises whose label ends in -clipped",
    "output_clipped_to": [0.0, 1.0],
    "mode": "eval",
    "psnr": "mean over images of the PSNR of each image, in dB; at most 100",
    "psnr_pooled": "PSNR of the mean over images of the mean squared error, in dB; at most 100",
    "ssim": "mean over images; 11x11 Gaussian window, sigma 1.5; of each channel, then their mean",
    "noise": f"image i is drawn on the CPU from torch.Generator seeded with {TEST_NOISE_SEED} + i; recorded: that of "
    "the captures, each compared with the clean image of its scene",
    "psnr_estimated": "without clean images: PSNR of the mean over scenes of the estimated mean squared error, in dB. "
    "The error is that to other captures of the scene less the variance of their noise; it can be negative by chance",
    "sigma": "of single noisy images: standard deviation of the white noise that is left, for pixels in [0, 1]",
    "removed": "of single noisy images: root mean square of the noisy image less the denoised one",
    "whiteness": "of what was removed: largest absolute autocorrelation at shifts of up to 2 pixels; 0 is white",
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
        return facts.halo(model, channels)

    @torch.no_grad()
    def run(part: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(part).to(device)).cpu().numpy()

    def denoise(noisy: torch.Tensor) -> torch.Tensor:
        pixels = noisy.numpy()
        if max(pixels.shape[-2:]) <= TILE:
            return torch.from_numpy(run(pixels)).clamp(0, 1)
        halo = halo_of(pixels.shape[1])
        return torch.from_numpy(tiled(run, pixels, halo, tile_side(halo))).clamp(0, 1)

    return denoise


def for_gray(denoise: Denoiser, channels: int) -> Denoiser:
    """A denoiser of images with so many channels, for gray ones: all channels are the gray image, the mean is taken.

    `pipeline.denoising.model` does the same with a file.
    """

    def denoise_gray(noisy: torch.Tensor) -> torch.Tensor:
        return denoise(noisy.expand(-1, channels, -1, -1).contiguous()).mean(dim=1, keepdim=True)

    return denoise_gray


def noisy_copy(part: Part, index: int, noise: Noise) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Image number `index` and its noisy copy, float32 [1, C, H, W]; None for a clean image that is not known.

    An image always gets the same noise, whatever the batch size, the device and the number of images. Of recorded
    noise, the noisy copy is the capture.
    """
    return _copies(part.for_noise(noise.is_recorded), range(index, index + 1), noise)


def noisy_batches(part: Part, noise: Noise) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of clean and noisy images, float32 [n, C, H, W]; images of several sizes come one by one.

    Raises:
        PipelineError: there are no clean images.
    """
    for clean, noisy in noisy_inputs(part, noise):
        if clean is None:
            raise PipelineError("the data have no clean images to compare with")
        yield clean, noisy


def noisy_inputs(part: Part, noise: Noise) -> Iterator[tuple[torch.Tensor | None, torch.Tensor]]:
    """As `noisy_batches`, with None for clean images that are not known."""
    part = part.for_noise(noise.is_recorded)
    size = 1
    if not isinstance(part.images, list):
        size = max(1, min(EVALUATION_BATCH, _BATCH_PIXELS // part.images[0][0].size))
    for start in range(0, len(part), size):
        yield _copies(part, range(start, min(start + size, len(part))), noise)


def _copies(part: Part, numbers: range, noise: Noise) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Images of one size, and a noisy copy of each."""
    # Stacked, and so copied: the arrays may be read-only.
    clean, captures = (
        None if images is None else part.levels.to_tensor(torch.from_numpy(np.stack(images)))
        for images in (
            None if part.clean is None else [part.clean[part.scene_of(number)] for number in numbers],
            None if part.noisy is None else [part.noisy[number] for number in numbers],
        )
    )
    noisy = []
    for place, number in enumerate(numbers):
        one = slice(place, place + 1)
        generator = torch.Generator().manual_seed(TEST_NOISE_SEED + number)
        noisy.append(
            noise.copy_of(None if clean is None else clean[one], None if captures is None else captures[one], generator)
        )
    return clean, torch.cat(noisy)


def score(part: Part, noise: Noise, denoisers: Mapping[str, Denoiser], metrics: Mapping[str, Metric]) -> Scores:
    """The value of every metric for every image and denoiser.

    Args:
        part: with clean images.
        noise: as in `noisy_batches`.
        denoisers: to score, by name.
        metrics: by name, such as `pipeline.scoring.metrics.METRICS`.
    """
    values: dict[str, dict[str, list[np.ndarray]]] = {name: {metric: [] for metric in metrics} for name in denoisers}
    for clean, noisy in noisy_batches(part, noise):
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
