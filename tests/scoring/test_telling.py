"""A long evaluation says how far it is, and a short one nothing."""

from __future__ import annotations

import pytest
import torch

from pipeline.scoring.progress import telling


def test_lines_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    images = torch.rand(700, 1, 2, 2)
    often, seldom = telling(torch.neg, "evaluate", every=0), telling(torch.neg, "evaluate", every=3600)
    for denoise in (often, often, seldom):
        assert torch.equal(denoise(images), -images)
    assert capsys.readouterr().out == "evaluate: 700 noisy images denoised\nevaluate: 1,400 noisy images denoised\n"
