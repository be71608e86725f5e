"""Who started this process: torchrun, `mlflow run`, or a sweep. Imports nothing slow."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import NoReturn

_SHELLS = {"bash", "sh", "dash"}


def count() -> int:
    """How many processes torchrun has started; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """The number of this process, from 0. Process 0 alone talks to MLflow, writes files and prints."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def in_mlflow_run() -> bool:
    """Whether `mlflow run` has started this process."""
    return {"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"} <= set(os.environ)


def stop_with_launcher() -> None:
    """Send this process SIGTERM when the program that started it dies, because `mlflow run` does not do so itself.

    Does nothing where there is no /proc (macOS).
    """
    from multiprocessing import parent_process

    starter = parent_process()  # of a trial that was forked: the sweep, and not the process that it was forked from
    launcher = (starter and starter.pid) or os.getppid()
    while _name(launcher) in _SHELLS:  # `mlflow run` starts a shell, which may have replaced itself with us
        launcher = _parent(launcher)
    if launcher <= 1 or _name(launcher) is None:
        return

    def watch() -> NoReturn:
        while True:
            time.sleep(0.5)
            try:
                os.kill(launcher, 0)
            except PermissionError:
                pass
            except ProcessLookupError:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(3600)

    threading.Thread(target=watch, name="launcher", daemon=True).start()


def _name(process: int) -> str | None:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return None


def _parent(process: int) -> int:
    # pid (name) state parent …; the name may hold spaces and brackets.
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
