"""How far a long evaluation is: a line now and then."""

from __future__ import annotations

import time

import torch

from pipeline.scoring.score import Denoiser
from pipeline.text import say

_EVERY = 30.0  # seconds


def telling(denoise: Denoiser, who: str, every: float = _EVERY) -> Denoiser:
    """The same denoiser; it says after so many seconds, and then again and again, how many images it has denoised.

    Args:
        denoise: which does the work.
        who: says so, such as "evaluate".
        every: seconds between two lines.
    """
    done, said = 0, time.monotonic()

    def tell(noisy: torch.Tensor) -> torch.Tensor:
        nonlocal done, said
        denoised = denoise(noisy)
        done += len(noisy)
        if time.monotonic() - said >= every:
            said = time.monotonic()
            say(f"{who}: {done:,} noisy images denoised")
        return denoised

    return tell
