"""What a run ran on: the machine, Python, every package."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any


def describe_environment() -> dict[str, Any]:
    """The machine and the software, as `names.ENVIRONMENT` has them. Nothing in it names a person or a folder.

    What only torch knows (its threads, the graphics cards) is there if torch was imported.
    """
    return {
        "os": {"name": _os_name(), "kernel": platform.release(), "machine": platform.machine()},
        "cpu": {"name": _cpu_name(), "count": os.cpu_count(), "usable": _usable_cpus()},
        "memory": {"bytes": _memory()},
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        **_torch(),
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "packages": _packages(),
    }


# Those on which speed, or the last bits of a result, depend.
_VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_PROC_BIND", "KMP_AFFINITY", "ATEN_CPU_CAPABILITY"),
    *("CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_CUDA_ALLOC_CONF", "NVIDIA_TF32_OVERRIDE"),
)


def _packages() -> dict[str, str]:
    """The version of every installed package, by name; the first one on the path counts, as in an import."""
    found: dict[str, str] = {}
    for one in distributions():
        if name := one.metadata["Name"]:  # None where an uninstallation broke off
            found.setdefault(name.lower(), one.version)
    return dict(sorted(found.items()))


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):  # not Linux
        return platform.platform(terse=True)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or not x86
        return platform.processor() or platform.machine()


def _usable_cpus() -> int | None:
    """How many this process may use, which a container or `taskset` limits."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return None


def _torch() -> dict[str, Any]:
    if (torch := sys.modules.get("torch")) is None:
        return {}
    cards = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "threads": {"torch": torch.get_num_threads(), "between_operators": torch.get_num_interop_threads()},
        "cuda": {"version": torch.version.cuda, "cards": cards},
    }
