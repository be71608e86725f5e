"""How good a denoiser is where no clean image is known: by other captures of the scene, or by the noise alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from pipeline.data.images import MAX_PSNR, Part, psnr_of_error
from pipeline.noise import Clipped, Noise
from pipeline.noise.estimation import curve_of_images, noise_sigma, whiteness
from pipeline.noise.kinds import RecordedNoise
from pipeline.scoring.score import Denoiser, noisy_inputs

_PIXELS = 2**24  # of the first images, which noise levels are measured on: 64 MiB for each denoiser
_SURE = 2.0  # standard errors from the estimated error to the bound that is given where the estimate is not positive


def estimated_errors(part: Part, noise: Noise, denoisers: Mapping[str, Denoiser]) -> dict[str, np.ndarray]:
    """The mean squared error of every denoised capture, estimated without bias from the other captures of its scene.

    It is the squared error to another capture less the variance of that capture's noise, which is half the mean squared
    difference of two captures. With a third capture, both come from captures that were not denoised, and the mean over
    all pairs of them is taken. Noise must have mean zero and be independent from capture to capture: noise that was
    clipped when it was stored has not, and then the error is that to the mean of many captures.

    Args:
        part: without clean images, with several captures of some scenes.
        noise: `recorded`.
        denoisers: by name.

    Returns:
        For every denoiser float64 [captures], which may be negative; NaN for the only capture of a scene.
    """
    errors: dict[str, list[float]] = {name: [] for name in denoisers}
    captures = _Captures(part)
    for _, noisy in noisy_inputs(part, noise):
        denoised = {name: denoise(noisy).numpy() for name, denoise in denoisers.items()}
        first = len(next(iter(errors.values())))
        for place in range(len(noisy)):
            for name, images in denoised.items():
                errors[name].append(captures.error(first + place, images[place].astype(np.float64)))
    return {name: np.array(values) for name, values in errors.items()}


class _Captures:
    """Sums over the captures of a scene, kept as long as captures of that scene are asked for."""

    def __init__(self, part: Part) -> None:
        assert part.noisy is not None
        assert part.scenes is not None
        self._levels, self._noisy, self._scenes = part.levels, part.noisy, part.scenes
        self._scene = -1

    def error(self, number: int, denoised: np.ndarray) -> float:
        """The estimated mean squared error of what a denoiser made of capture `number`, float64 [C, H, W]."""
        if self._scene != self._scenes[number]:
            self._load(int(self._scenes[number]))
        others = self._count - 1
        if others == 0:
            return math.nan
        own = self._floats(number)
        total = self._sum - own
        if others == 1:
            return float(np.square(denoised - total).mean() - np.square(own - total).mean() / 2)
        # The sum over pairs j, k of others of (denoised - j)(denoised - k): the square of a sum less that of squares.
        of_differences = others * denoised - total
        of_squares = others * denoised**2 - 2 * denoised * total + self._squares - own**2
        return float((of_differences**2 - of_squares).mean() / (others * (others - 1)))

    def _load(self, scene: int) -> None:
        numbers = np.flatnonzero(self._scenes == scene)
        self._scene, self._count, self._sum, self._squares = scene, len(numbers), np.zeros(()), np.zeros(())
        for number in numbers:
            capture = self._floats(int(number))
            self._sum, self._squares = self._sum + capture, self._squares + capture**2

    def _floats(self, number: int) -> np.ndarray:
        return self._levels.to_floats(self._noisy[number]).astype(np.float64)


def summarize_errors(errors: np.ndarray, scenes: np.ndarray) -> dict[str, float]:
    """The estimated PSNR and its standard error over the scenes.

    Args:
        errors: as `estimated_errors` returns them.
        scenes: int64 [captures].

    Returns:
        `mse_estimated`; and `psnr_estimated` in dB with its `psnr_standard_error`, or, where chance has made the
        estimated error not positive, `psnr_at_least`. What cannot be known from a single scene is left out.
    """
    of_scenes = errors_of_scenes(errors, scenes)
    mean, count = float(of_scenes.mean()), len(of_scenes)
    found = {"mse_estimated": mean}
    deviation = float(of_scenes.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    if mean > 10 ** (-MAX_PSNR / 10):
        found["psnr_estimated"] = float(psnr_of_error(mean))
        found["psnr_standard_error"] = 10 / math.log(10) * deviation / mean
    elif (bound := mean + _SURE * deviation) > 0:
        found["psnr_at_least"] = float(psnr_of_error(bound))
    return {name: value for name, value in found.items() if math.isfinite(value)}


def errors_of_scenes(errors: np.ndarray, scenes: np.ndarray) -> np.ndarray:
    """The mean over the captures of each scene that has several: float64 [scenes]."""
    known = np.isfinite(errors)
    _, places = np.unique(scenes[known], return_inverse=True)
    return np.bincount(places, errors[known]) / np.bincount(places)


def noise_levels(
    part: Part, noise: Noise, denoisers: Mapping[str, Denoiser]
) -> tuple[dict[str, dict[str, float]], np.ndarray]:
    """What noise is left, and what was removed, of images of which nothing else is known.

    Args:
        part: without clean images.
        noise: `recorded`; a standard deviation that is given counts if it is larger than what is estimated.
        denoisers: by name; `noisy` returns its input.

    Returns:
        `{denoiser: {metric: value}}`, everything on the [0, 1] scale: `sigma`, the standard deviation of the white
        noise that is left; `contrast`, that of the pixels of an image; of `noisy` also `noise`, the standard deviation
        of all noise, which in bright places may be more than `sigma`; of the others also `removed`, the root mean
        square of what was removed, and its `whiteness`, 0 for white noise. And `removed` of each image by the denoiser
        `denoised`, float64 [N].
    """
    images: dict[str, list[np.ndarray]] = {name: [] for name in denoisers}
    few = part[: max(1, _PIXELS // part.images[0].size)]
    for _, noisy in noisy_inputs(few, noise):
        for name, denoise in denoisers.items():
            images[name].extend(denoise(noisy).numpy())
    before = images["noisy"]
    found: dict[str, dict[str, float]] = {}
    by_image = np.zeros(len(before))
    for name, of in images.items():
        found[name] = {"sigma": noise_sigma(of), "contrast": _rms([image.std(dtype=np.float64) for image in of])}
        if name == "noisy":
            found[name]["noise"] = _noise(before, found[name]["sigma"], noise)
            continue
        removed = [image - other for image, other in zip(before, of, strict=True)]
        squares = [float(np.sqrt(np.square(image, dtype=np.float64).mean())) for image in removed]
        found[name] |= {"removed": _rms(squares), "whiteness": whiteness(removed)}
        if name == "denoised":
            by_image = np.array(squares)
    return found, by_image


def _noise(images: list[np.ndarray], sigma: float, noise: Noise) -> float:
    """The standard deviation of all noise: the largest that is estimated or given, so that no model is wronged."""
    recorded = noise.noise if isinstance(noise, Clipped) else noise
    given = recorded.sigma.high if isinstance(recorded, RecordedNoise) else 0.0
    curve = curve_of_images(images)
    brightness = float(np.mean([image.mean(dtype=np.float64) for image in images]))
    return max(given, sigma, math.sqrt(max(0.0, curve.a * brightness + curve.b)))


def _rms(values: list[float]) -> float:
    return math.sqrt(float(np.square(values).mean()))
