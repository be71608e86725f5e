"""Removing runs for good, with their files and their logged models."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

from mlflow.entities import LifecycleStage

from pipeline.tracking import store


def remove_runs(run_ids: Sequence[str], model_ids: Sequence[str]) -> None:
    """Remove runs and logged models from the store in use.

    On a server they are only marked as deleted: its own `mlflow gc` removes their files.

    Raises:
        PipelineError: the store does not answer.
    """
    client = store.connect()

    def remove() -> None:
        for model_id in model_ids:
            client.delete_logged_model(model_id)
        for run_id in run_ids:
            if client.get_run(run_id).info.lifecycle_stage != LifecycleStage.DELETED:
                client.delete_run(run_id)
        if store.database_file() is not None:
            _collect(run_ids, model_ids)

    store.ask("the runs were not removed as a whole", remove)


def _collect(run_ids: Sequence[str], model_ids: Sequence[str]) -> None:
    # The core of `mlflow gc`; the command itself would take along all experiments that are marked as deleted.
    from mlflow.cli import _gc_tracking_resources
    from mlflow.tracking._tracking_service.utils import _get_store

    with contextlib.redirect_stdout(io.StringIO()):  # a line for each
        _gc_tracking_resources(
            _get_store(),
            run_ids=list(run_ids),
            experiment_ids=None,
            logged_model_ids=list(model_ids),
            older_than=None,
            time_delta=0,
            skip_experiments=True,
            skip_logged_models=False,
        )
