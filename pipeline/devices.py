"""Choosing the device."""

from __future__ import annotations

import os

import torch

from pipeline.errors import PipelineError


def choose_device(name: str) -> torch.device:
    """The device called `name`: cpu, cuda or mps; `auto` is the first of cuda, mps and cpu that is there.

    Asks torch for deterministic kernels, so that the same seed gives the same weights on the same machine.

    Raises:
        PipelineError: the device is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available[name]:
        there = ", ".join(device for device, there in available.items() if there)
        raise PipelineError(f"--device {name}: not available on this machine; available: {there}")
    if name == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device(name)
