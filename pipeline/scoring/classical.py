"""The classical denoisers that networks are compared with. Adding one is a function and an entry in `BASELINES`.

They need the extra `baselines` (scikit-image, PyWavelets). BM3D also needs the package `bm3d`, which is free for
non-commercial use only, so it has an extra of its own and is imported only when used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch

from pipeline.config import REFERENCE_VARIANCES
from pipeline.data.images import Part
from pipeline.noise import make_noise
from pipeline.scoring.metrics import METRICS, psnr
from pipeline.scoring.score import Denoiser, means, noisy_batches, score

_TUNING_IMAGES = 50  # validation images that the parameter is chosen on


@dataclass(frozen=True)
class Baseline:
    """A classical denoiser.

    `function` takes a noisy image, float32 [H, W] or in colour [H, W, 3], the standard deviation of its noise, and a
    parameter; it returns the denoised image. The parameter is chosen among `parameters` on validation images.
    """

    function: Callable[[np.ndarray, float, float], np.ndarray]
    parameters: Sequence[float]
    packages: Sequence[str]  # what it imports
    extra: str  # the extra that installs these


def gaussian(image: np.ndarray, sigma: float, blur: float) -> np.ndarray:
    """A Gaussian filter; `blur` is its standard deviation in pixels."""
    from skimage import filters

    return filters.gaussian(image, blur, channel_axis=_axis(image))


def median(image: np.ndarray, sigma: float, side: float) -> np.ndarray:
    """The median of `side` x `side` pixels; a side of 1 changes nothing."""
    from scipy.ndimage import median_filter

    return median_filter(image, (int(side), int(side), 1)[: image.ndim])


def wavelet(image: np.ndarray, sigma: float, factor: float) -> np.ndarray:
    """Soft thresholds on wavelet coefficients (BayesShrink, Chang et al. 2000) for `factor` times the noise."""
    from skimage.restoration import denoise_wavelet

    # In an empty image a threshold may be 0 / 0: no threshold then.
    with np.errstate(divide="ignore", invalid="ignore"):
        denoised = denoise_wavelet(image, factor * sigma, channel_axis=_axis(image), rescale_sigma=True)
    return np.nan_to_num(denoised)


def tv(image: np.ndarray, sigma: float, factor: float) -> np.ndarray:
    """Total variation (Chambolle 2004); its weight is `factor` times the noise."""
    from skimage.restoration import denoise_tv_chambolle

    return denoise_tv_chambolle(image, factor * sigma, channel_axis=_axis(image))


def nlm(image: np.ndarray, sigma: float, factor: float) -> np.ndarray:
    """Non-local means (Buades et al. 2005): 5x5 patches within 13x13, `h` is `factor` times the noise."""
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(image, 5, 6, factor * sigma, sigma=sigma, channel_axis=_axis(image))


def block_matching(image: np.ndarray, sigma: float, factor: float) -> np.ndarray:
    """BM3D (Dabov et al. 2007; Makinen et al. 2020) for `factor` times the noise."""
    import bm3d

    if image.ndim == 3 and image.shape[2] != 3:
        channels = [bm3d.bm3d(channel, factor * sigma) for channel in np.moveaxis(image, 2, 0)]
        return np.stack(channels, axis=2)
    return (bm3d.bm3d if image.ndim == 2 else bm3d.bm3d_rgb)(image, factor * sigma)


def _axis(image: np.ndarray) -> int | None:
    return None if image.ndim == 2 else 2


_SKIMAGE = ("skimage", "pywt"), "baselines"
BASELINES: dict[str, Baseline] = {
    "gaussian": Baseline(gaussian, (0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0), *_SKIMAGE),
    "median": Baseline(median, (1, 3, 5), *_SKIMAGE),
    "wavelet": Baseline(wavelet, (0.5, 0.7, 0.85, 1.0, 1.2, 1.5), *_SKIMAGE),
    "tv": Baseline(tv, (0.3, 0.45, 0.6, 0.75, 0.9, 1.1, 1.4), *_SKIMAGE),
    "nlm": Baseline(nlm, (0.3, 0.45, 0.6, 0.75, 0.9, 1.1), *_SKIMAGE),
    "bm3d": Baseline(block_matching, (0.8, 1.0, 1.2, 1.4), ("bm3d",), "bm3d"),
}


def missing(name: str) -> str:
    """How to install the packages that the baseline `name` needs; "" if they are installed."""
    baseline = BASELINES[name]
    if all(find_spec(package) for package in baseline.packages):
        return ""
    return f"not installed: pip install -e '.[{baseline.extra}]'"


def baseline_denoiser(name: str, sigma: float, parameter: float) -> Denoiser:
    """The baseline `name`, for noise of standard deviation `sigma`; its output is clipped to [0, 1]."""
    function = BASELINES[name].function

    def denoise(noisy: torch.Tensor) -> torch.Tensor:
        gray = noisy.shape[1] == 1
        images = [image[0] if gray else image.permute(1, 2, 0) for image in noisy]
        denoised = torch.from_numpy(np.stack([function(image.numpy(), sigma, parameter) for image in images]))
        return (denoised[:, None] if gray else denoised.permute(0, 3, 1, 2)).to(noisy.dtype).clamp(0, 1)

    return denoise


def tune(name: str, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], sigma: float) -> float:
    """The parameter with the highest mean PSNR on `pairs` of clean and noisy images, float32 [N, C, H, W] each."""

    def quality(parameter: float) -> float:
        denoise = baseline_denoiser(name, sigma, parameter)
        return torch.cat([psnr(denoise(noisy), clean) for clean, noisy in pairs]).mean().item()

    return max(BASELINES[name].parameters, key=quality)


def _deviation(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """The standard deviation of recorded noise."""
    squares = [(noisy - clean).square().mean(dim=(1, 2, 3)) for clean, noisy in pairs]
    return float(torch.cat(squares).mean().sqrt())


def score_baseline(
    name: str, validation: Part, test: Part
) -> tuple[dict[str, float], dict[str, dict[str, dict[str, float]]]]:
    """Tune and score the baseline `name`: with the noise of the images, or else at every reference level.

    Args:
        name: a key of `BASELINES`.
        validation: images to choose the parameter on, at each level by itself. With noise of their own, its standard
            deviation is measured on them, too.
        test: images to score on.

    Returns:
        The chosen parameter by label of the noise, and the scores `{label of the noise: {"denoised": {metric: mean}}}`.
    """
    parameters, results = {}, {}
    few = validation[:_TUNING_IMAGES]
    levels = {make_noise("gaussian", f"{variance:g}"): variance**0.5 for variance in REFERENCE_VARIANCES}
    if few.noisy is not None:
        levels = {(recorded := make_noise("recorded")): _deviation([*noisy_batches(few, recorded)])}
    for noise, sigma in levels.items():
        pairs = list(noisy_batches(few, noise))
        parameter = parameters[noise.label] = tune(name, pairs, sigma)
        denoisers = {"denoised": baseline_denoiser(name, sigma, parameter)}
        results[noise.label] = {"denoised": means(score(test, noise, denoisers, METRICS)["denoised"])}
    return parameters, results
