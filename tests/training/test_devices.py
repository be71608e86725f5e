"""Choosing the device and the precision."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.training.devices import choose_device, choose_precision


def test_a_missing_device_is_an_error_that_says_what_is_available() -> None:
    name = "cuda" if not torch.cuda.is_available() else "mps"
    with pytest.raises(PipelineError, match=f"--device {name}: not available on this machine; available: .*cpu"):
        choose_device(name)


def test_without_bfloat16_arithmetic_it_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for has_it, precision in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has_it=has_it: has_it)
        assert choose_precision("bfloat16", cpu) is precision
        assert choose_precision("float32", cpu) is torch.float32
