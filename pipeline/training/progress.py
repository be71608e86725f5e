"""Progress of the training: a bar on a terminal, plain lines, one an epoch, elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType

import click

from pipeline.training.loop import Epoch, Point, Progress


class TrainingProgress:
    """Shows where a training is. A context manager: leaving it ends the line of the bar."""

    def __init__(self, epochs: int, images: int) -> None:
        self.epochs: list[Epoch] = []  # those that have ended
        self.points: list[Point] = []  # of the learning curve, so far
        self._count = epochs
        self._images = images  # an epoch
        self._bar = None
        if sys.stderr.isatty():
            self._bar = click.progressbar(
                length=epochs * images, label="train", width=20, file=sys.stderr, item_show_func=self._describe
            )

    def __enter__(self) -> TrainingProgress:
        if self._bar:
            self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.__exit__(kind, error, trace)

    def update(self, progress: Progress) -> None:
        """Redraw the bar, with the time left."""
        if self._bar:
            seen = (progress.epoch - 1) * self._images + progress.images
            self._bar.update(seen - self._bar.pos, progress)

    def point(self, point: Point) -> None:
        """Take note of a point of the learning curve."""
        self.points.append(point)

    def epoch(self, epoch: Epoch) -> None:
        """Take note of an epoch that has ended; without a bar, print its line."""
        self.epochs.append(epoch)
        if not self._bar:
            click.echo(
                f"train: epoch {epoch.epoch}/{self._count}: training loss {epoch.train_loss:.5f}, "
                f"validation loss {epoch.validation_loss:.5f}{' (best)' if epoch.is_best else ''}, "
                f"{epoch.images_per_second:,.0f} images/s"
            )

    def _describe(self, progress: Progress | None) -> str | None:
        if progress is None:
            return None
        validation = f", validation {self.epochs[-1].validation_loss:.5f}" if self.epochs else ""
        return (
            f"epoch {progress.epoch}/{self._count}, loss {progress.loss:.5f}{validation}, "
            f"{progress.images_per_second:,.0f} images/s"
        )
