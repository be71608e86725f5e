"""What the store has of a run, or will have once all is sent."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError
from pipeline.files import inside
from pipeline.tracking.event_log import Event

if TYPE_CHECKING:
    from mlflow.entities import RunData


@dataclass
class Known:
    """The parameters, tags and newest metrics of a run, and its artifacts that are on this machine."""

    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]
    steps: set[tuple[str, int]] = field(default_factory=set)  # at which a metric was logged by this machine
    files: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def of(cls, data: RunData) -> Known:
        return cls(dict(data.params), dict(data.tags), dict(data.metrics))

    def add(self, event: Event, folder: Path) -> None:
        """Know what the store will have; `folder` is where the files of events are."""
        if event["kind"] == "values":
            self.params.update(event["params"])
            self.tags.update(event["tags"])
            self.metrics.update(event["metrics"])
            self.steps.update((name, event["step"]) for name in event["metrics"])
        elif event["kind"] == "artifact":
            with suppress(PipelineError):  # it names another place, and will not be sent either
                file = inside(folder, event["file"])
                self.files["/".join(filter(None, (event["path"], file.name)))] = file
