"""Whether a picture looks like what a model was trained on. No clean image is needed.

From pictures that it knows, a denoiser removes noise, which has little to do from one pixel to the next. From others it
removes lines and surfaces as well, whose neighbouring pixels are alike. So what it removed is judged by the correlation
of neighbours, held against the same of the model's own test images, which `export` writes into the file: some of it is
always there, as noise that was clipped to [0, 1] has a mean. Models of noise with grain are not judged: what they
rightly remove is as alike as structure.

The demo page and MLflow's model judge by the same formula (`handoff/files/demo/denoiser.js`,
`handoff/mlflow_loader.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

LEAST = 1 / 255  # of the [0, 1] scale: whoever removes no more than this has spoiled nothing that can be seen
_CERTAIN = 3.0  # standard errors of the correlation of white noise
_SPREAD = 3.0  # standard deviations over test images that they may differ by, few as they may be
_ROWS = 256  # of a large picture, to look at together

ADVICE = "it does not look like what this model was trained on, and it may be spoiled"


@dataclass(frozen=True)
class Limits:
    """The highest correlation of neighbouring pixels in what is removed from a model's own test images."""

    unclipped: float  # noise was added, and nothing clipped
    clipped: float  # clipped to [0, 1] afterwards, as whatever is stored as integers

    @classmethod
    def of(cls, noisy: np.ndarray, model: Callable[[np.ndarray], np.ndarray]) -> Self:
        """Measure them on noisy test images, float32 [N, C, H, W]; `model` maps such to denoised ones."""
        return cls(*(_highest(images, model(images)) for images in (noisy, noisy.clip(0, 1))))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the text form, which is that of the ONNX file's metadata."""
        unclipped, clipped = (float(number) for number in text.split())
        return cls(unclipped, clipped)

    def __str__(self) -> str:
        return f"{self.unclipped:.4f} {self.clipped:.4f}"

    def are_exceeded(
        self, noisy: np.ndarray, denoised: np.ndarray, to_floats: Callable[[np.ndarray], np.ndarray] = np.asarray
    ) -> np.ndarray:
        """Whether the model has removed more from pictures than noise of the kind that it was trained on: bool [B].

        Args:
            noisy: [B, ..., H, W], any type.
            denoised: of the same shape, of any strength other than 0.
            to_floats: makes float32 on the [0, 1] scale of parts of both.
        """
        correlation, error = _correlations(noisy, denoised, to_floats)
        lowest, highest = (to_floats(of(noisy, axis=_all_but_first(noisy))) for of in (np.min, np.max))
        limit = np.where((lowest >= 0) & (highest <= 1), self.clipped, self.unclipped)
        return correlation - _CERTAIN * error > limit


def _highest(noisy: np.ndarray, denoised: np.ndarray) -> float:
    found = np.array([_correlations(noisy[i : i + 1], denoised[i : i + 1])[0][0] for i in range(len(noisy))])
    return float(max(found.max(), found.mean() + _SPREAD * found.std()))


def _all_but_first(images: np.ndarray) -> tuple[int, ...]:
    return tuple(range(1, images.ndim))


def _correlations(
    noisy: np.ndarray, denoised: np.ndarray, to_floats: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of what was removed, with the same one pixel to the right and one below; and its standard error for white noise.

    Nothing is subtracted first: what is removed has no mean, unless it is more than noise. 0 where at most `LEAST` was
    removed (its root mean square). Both float64 [B].
    """
    axes, height, pairs = _all_but_first(noisy), noisy.shape[-2], 0
    power, products = np.zeros(len(noisy)), np.zeros(len(noisy))
    for top in range(0, height, _ROWS):
        part = slice(top, min(top + _ROWS + 1, height))  # with the first row of the next part
        removed = to_floats(noisy[..., part, :]) - to_floats(denoised[..., part, :])
        power += np.square(removed[..., :_ROWS, :]).sum(axes, dtype=np.float64)
        for one, other in (
            (removed[..., :_ROWS, 1:], removed[..., :_ROWS, :-1]),
            (removed[..., 1:, :], removed[..., :-1, :]),
        ):
            products += (one * other).sum(axes, dtype=np.float64)
            pairs += one[0].size
    power /= noisy[0].size
    is_seen = (power > LEAST**2) & (pairs > 0)
    correlation = np.divide(products, pairs * power, out=np.zeros(len(noisy)), where=is_seen)
    return correlation, np.where(is_seen, max(pairs, 1) ** -0.5, 0)
