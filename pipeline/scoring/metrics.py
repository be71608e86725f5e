"""Image quality, per image. Adding a metric is one function and an entry in `METRICS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import torch

from pipeline.data.images import psnr_of_error
from pipeline.errors import PipelineError
from pipeline.plugins import Table

Metric = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Takes images and their clean counterparts, float [N, C, H, W] on the CPU, clean pixels in [0, 1]; returns [N]."""

_RADIUS, _SIGMA = 5, 1.5  # pixels, of SSIM's window
_BLOCK = 64  # pixels, that windows are summed for at once
_C1, _C2 = 0.01**2, 0.03**2  # SSIM's constants


def mse(images: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Mean squared error per pixel."""
    return (images - clean).square().mean(dim=(1, 2, 3))


def psnr(images: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB of each image by itself, with data range 1: -10 log10(MSE); at most 100."""
    return torch.from_numpy(psnr_of_error(mse(images, clean).numpy()))


def ssim(images: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Structural similarity (Wang et al. 2004): 11x11 Gaussian window of sigma 1.5, data range 1; at most 1.

    The image is reflected at its border, and the mean is taken over all pixels, as in torchmetrics, whose function
    takes twelve times as long for small images and two seconds to import. Height and width must be at least 6 pixels.
    """
    maps = _means(torch.stack([images, clean, images * images, clean * clean, images * clean]))
    mean, clean_mean, square, clean_square, product = maps
    variances = (square - mean * mean).clamp(min=0) + (clean_square - clean_mean * clean_mean).clamp(min=0)
    covariance = product - mean * clean_mean
    luminance = (2 * mean * clean_mean + _C1) / (mean * mean + clean_mean * clean_mean + _C1)
    return (luminance * (2 * covariance + _C2) / (variances + _C2)).mean(dim=(1, 2, 3))


def _means(maps: torch.Tensor) -> torch.Tensor:
    """The mean in a Gaussian window around every pixel of maps [..., H, W]: over the rows first, then the columns.

    Each is a product of matrices, block by block, so that large images take no longer for each pixel than small ones.
    """
    height, width = maps.shape[-2:]
    rows = [windows.to(maps) @ maps[..., first:last, :] for first, last, windows in _blocks(height)]
    maps = torch.cat(rows, dim=-2)
    return torch.cat([maps[..., first:last] @ windows.to(maps).T for first, last, windows in _blocks(width)], dim=-1)


def _blocks(length: int) -> Iterator[tuple[int, int, torch.Tensor]]:
    """For blocks of `length` places: the first and last pixels that windows around them see, and the windows."""
    for start in range(0, length, _BLOCK):
        stop = min(start + _BLOCK, length)
        first, last = max(0, start - _RADIUS), min(length, stop + _RADIUS)
        yield first, last, _windows(start - first, stop - start, last - first)


@cache
def _windows(start: int, count: int, length: int) -> torch.Tensor:
    """Gaussian windows around `count` places from `start` on of `length` pixels, reflected at their border.

    float32 [count, length].
    """
    offsets = torch.arange(-_RADIUS, _RADIUS + 1)
    weights = (-offsets.double().square() / (2 * _SIGMA**2)).exp()
    places = (start + torch.arange(count)[:, None] + offsets).abs()
    places = torch.where(places < length, places, 2 * (length - 1) - places)
    windows = torch.zeros(count, length, dtype=torch.float64)
    return windows.scatter_add_(1, places, (weights / weights.sum()).expand(places.shape)).float()


def _added(name: str, member: object) -> Metric:
    if not callable(member):
        raise PipelineError(f"a {type(member).__name__} is not a function of images and their clean counterparts")

    def metric(images: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        values = member(images, clean)
        if not isinstance(values, torch.Tensor) or values.shape != (len(images),):
            found = list(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
            raise PipelineError(
                f"the metric '{name}' gives {found} for {len(images)} images; it must give one number each"
            )
        return values

    return metric


METRICS: Table[Metric] = Table(
    "metric",
    {"mse": mse, "psnr": psnr, "ssim": ssim},
    _added,
    reserved=("accuracy", "contrast", "digit", "noise", "removed", "sigma", "whiteness"),
)
