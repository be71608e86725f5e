"""What is different where `mlflow run` has started this process."""

from __future__ import annotations

import os


def in_mlflow_run() -> bool:
    """Whether it has."""
    return {"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"} <= set(os.environ)


def without_defaults(arguments: list[str], defaults: dict[str, str]) -> list[str]:
    """The arguments without the pairs that only repeat a default, as `mlflow run` gives every option."""
    kept: list[str] = []
    pairs = iter(arguments)
    for argument in pairs:
        if argument in defaults:
            value = next(pairs, None)
            if value != defaults[argument]:
                kept += [argument, *([] if value is None else [value])]
        else:
            kept.append(argument)
    return kept
