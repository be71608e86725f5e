"""How much of the noise that a model finds is removed: `--strength`.

For a noisy image y, a model f and a strength s:

- 0 to 1: y + s (f(y) - y). 0 gives y, 1 gives what the model makes of it.
- 1 to 1.5: f(y) + 2 (s - 1) (f(f(y)) - f(y)). 1.5 gives the image that went through the model twice.

Above 1, the first formula would be bad: what it removes too much is noise, inverted. PSNR in dB of a small resunet,
trained for variances up to 0.02, on 256x256 pixels of scikit-image's astronaut, coffee and chelsea with Gaussian noise,
stored with 8 bits:

    standard deviation of 255    f(y)    first formula at 1.25, 1.5    second pass at 1.25, 1.5
    15                          30.85    29.80, 27.90                  30.61, 30.04
    25                          27.93    27.39, 25.46                  28.37, 28.43
    50, more than it learned    22.60    22.90, 21.44                  23.69, 24.51
    15, over neighbours too     28.85    28.38, 27.29                  28.85, 28.60
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

MOST = 1.5


def with_strength(model: Callable[[np.ndarray], np.ndarray], noisy: np.ndarray, strength: float) -> np.ndarray:
    """Denoised images, by the formulas above.

    Args:
        model: maps float32 [N, C, H, W] to the same shape. It is called twice if the strength is above 1.
        noisy: float32 [N, C, H, W].
        strength: 0 to `MOST`.

    Returns:
        float32 [N, C, H, W].
    """
    denoised = model(noisy)
    if strength == 1:
        return denoised
    if strength < 1:
        return _between(noisy, denoised, strength)
    return _between(denoised, model(denoised), (strength - 1) / (MOST - 1))


def _between(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    return first + np.float32(share) * (second - first)
