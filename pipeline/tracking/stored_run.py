"""An MLflow run that is only read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.tracking.known import Known
from pipeline.tracking.run import OpenRun

if TYPE_CHECKING:
    from mlflow.entities import RunData


class StoredRun(OpenRun):
    """A run as the store has it. What reads an `OpenRun` can read this; nothing can be logged to it."""

    def __init__(self, run_id: str, data: RunData) -> None:
        """Args:
        run_id: of the run.
        data: what the store has of it.
        """
        self.id = run_id
        self._known = Known.of(data)
