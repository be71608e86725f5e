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
    ) -> bool:
        """Whether the model has removed more from a picture than noise of the kind that it was trained on.

        Args:
            noisy: [1, C, H, W], any type.
            denoised: of the same shape, of any strength other than 0.
            to_floats: makes float32 on the [0, 1] scale of parts of both.
        """
        correlation, error = _correlation(noisy, denoised, to_floats)
        floats = to_floats(np.array([noisy.min(), noisy.max()]))
        limit = self.clipped if floats.min() >= 0 and floats.max() <= 1 else self.unclipped
        return correlation - _CERTAIN * error > limit


def _highest(noisy: np.ndarray, denoised: np.ndarray) -> float:
    found = np.array([_correlation(noisy[i : i + 1], denoised[i : i + 1])[0] for i in range(len(noisy))])
    return float(max(found.max(), found.mean() + _SPREAD * found.std()))


def _correlation(
    noisy: np.ndarray, denoised: np.ndarray, to_floats: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> tuple[float, float]:
    """Of what was removed, with the same one pixel to the right and one below; and its standard error for white noise.

    Nothing is subtracted first: what is removed has no mean, unless it is more than noise. 0 if at most `LEAST` was
    removed (its root mean square).
    """
    power, products, pairs = 0.0, 0.0, 0
    height = noisy.shape[-2]
    for top in range(0, height, _ROWS):
        part = slice(top, min(top + _ROWS + 1, height))  # with the first row of the next part
        removed = to_floats(noisy[..., part, :]) - to_floats(denoised[..., part, :])
        right, below = removed[..., :_ROWS, 1:] * removed[..., :_ROWS, :-1], removed[..., 1:, :] * removed[..., :-1, :]
        power += float(np.square(removed[..., :_ROWS, :]).sum(dtype=np.float64))
        products += float(right.sum(dtype=np.float64) + below.sum(dtype=np.float64))
        pairs += right.size + below.size
    power /= noisy.size
    if not pairs or power <= LEAST**2:
        return 0.0, 0.0
    return products / pairs / power, pairs**-0.5
