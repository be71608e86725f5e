"""Choosing the device, and the precision of arithmetic on it."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

from pipeline.errors import PipelineError


def choose_device(name: str) -> torch.device:
    """The device called `name`: cpu, cuda or mps; `auto` is the first of cuda, mps and cpu that is available.

    Also sets torch to deterministic kernels, so that the same seed gives the same weights on the same machine, and the
    C library to keep freed memory.

    Raises:
        PipelineError: the device is not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available[name]:
        there = ", ".join(device for device, there in available.items() if there)
        raise PipelineError(f"--device {name}: not available on this machine; available: {there}")
    if name == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    if name != "cpu":
        # On a CPU the kernels of these models are deterministic anyway, and this call takes a second: it imports the
        # compiler.
        torch.use_deterministic_algorithms(True, warn_only=True)
    if name == "cpu" and sys.platform == "linux":
        _keep_freed_memory()
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """float32 or bfloat16; always float32 on a processor that would only emulate bfloat16 arithmetic."""
    if name == "float32" or not _has_bfloat16(device):
        return torch.float32
    return torch.bfloat16


def advice_on_load() -> str:
    """What makes training faster where other work keeps the cores busy; "" where nothing does.

    After every operation the threads wait for one another, busily; one that has to share its core keeps all waiting.
    Measured at a load of 7 on two cores: 27 images/s on two threads, 355 on one.
    """
    load, cores = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0, os.cpu_count() or 1
    if (
        torch.get_num_threads() == 1 or load < 2 * cores
    ):  # what went before may itself have been worth a load of 1 per core
        return ""
    many = "s" if cores > 1 else ""
    return (
        f"other work keeps the machine busy (a load of {load:.1f} on {cores} core{many}); if training is slow, set "
        "OMP_NUM_THREADS=1, which may be many times as fast"
    )


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def _keep_freed_memory() -> None:
    """Stop glibc from returning the memory of every large tensor to the system, to page it in again for the next one.

    Measured on two cores: 5 % more images/s at batches of 64, 25 % at batches of 256.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries do not have it
    if mallopt:
        mallopt(trim_threshold, 2**30)
        mallopt(mmap_threshold, 2**30)
