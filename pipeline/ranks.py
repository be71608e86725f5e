"""Which of the processes that torchrun has started this is; nothing slow is imported to know it."""

from __future__ import annotations

import os


def count() -> int:
    """How many processes there are; 1 where torchrun has not started this one."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank() -> int:
    """From 0; process 0 is the one that talks to MLflow, writes files and says things."""
    return int(os.environ["RANK"]) if count() > 1 else 0
