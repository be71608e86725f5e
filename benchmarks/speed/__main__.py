"""How fast everything is. Prints Markdown tables.

    python -m benchmarks.speed [--only REGEX]

Needs `pip install -e '.[test]'`, and `.[bm3d]` for BM3D. Takes about forty minutes on two cores. Both sides of a ratio
run in turn, and the ratio is what counts: absolute times on a shared machine mean little.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.speed import growth, inference, job, loop, preparing, quality, scale, startup

TABLES = {
    "quality": quality.table,
    "ablation": quality.ablation,
    "loop": loop.table,
    "overhead": job.overhead,
    "inference": inference.table,
    "startup": startup.table,
    "preparing": preparing.table,
    "job": job.main_job,
    "growth": growth.table,
    "sweep": scale.sweep,
    "processes": scale.processes,
    "compare": scale.compare,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"the tables that this expression finds: {', '.join(TABLES)}")
    parser.add_argument("--table", choices=TABLES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.table:
        TABLES[arguments.table]()
        return
    print(f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, ", end="")
    print(f"torch {torch.__version__}; {_gpu()}.\n", flush=True)
    for name in TABLES:
        if re.search(arguments.only, name):
            # In a process of its own: threads, patches and caches of one table must not touch the next.
            subprocess.run([sys.executable, "-m", "benchmarks.speed", "--table", name], check=True)
            print(flush=True)


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _gpu() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: nothing was run on one"


if __name__ == "__main__":
    main()
