"""Choosing the device and the precision."""

from __future__ import annotations

import os

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.training.devices import advice_on_load, choose_device, choose_precision


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


def test_on_a_busy_machine_one_thread_is_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for load, threads, is_told in ((8.25, 2, True), (1.9, 2, False), (8.25, 1, False)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0, 0))
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        advice = advice_on_load()
        assert bool(advice) == is_told
        if is_told:
            assert "a load of 8.2 on 2 cores" in advice
            assert "OMP_NUM_THREADS=1" in advice
