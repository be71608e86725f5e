"""Shows the progress of a training: a bar on a terminal; elsewhere a line per epoch, and now and then within one."""

from __future__ import annotations

import sys
import time
from types import TracebackType

import click

from pipeline.text import is_quiet, say
from pipeline.training.loop import Epoch, Position

_EVERY = 30.0  # seconds


class ProgressDisplay:
    """Shows where a training is. A context manager: leaving it ends the line of the bar."""

    def __init__(self, epochs: int, images: int, every: float = _EVERY) -> None:
        """Args:
        images: per epoch.
        every: so many seconds without a line there is one, if there is no bar.
        """
        self._epochs, self._images = epochs, images
        self._validation = ""  # of the last epoch
        self._every, self._said = every, time.monotonic()
        self._bar = None
        if sys.stderr.isatty() and not is_quiet():
            self._bar = click.progressbar(
                length=epochs * images, label="train", width=20, file=sys.stderr, item_show_func=self._describe
            )

    def __enter__(self) -> ProgressDisplay:
        if self._bar:
            self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.__exit__(kind, error, trace)

    def update(self, position: Position) -> None:
        """Redraw the bar and the time left, or print a line if there was none for long."""
        if self._bar:
            seen = (position.epoch - 1) * self._images + position.images
            self._bar.update(seen - self._bar.pos, position)
        elif time.monotonic() - self._said >= self._every:
            self._said = time.monotonic()
            say(
                f"train: epoch {position.epoch}/{self._epochs}: {position.images:,} of {self._images:,} images, "
                f"training loss {position.loss:.5f}, {position.images_per_second:,.0f} images/s"
            )

    def epoch(self, epoch: Epoch) -> None:
        """Print the line of an epoch that has ended; with a bar, show its validation loss there."""
        self._validation = f", validation {epoch.validation_loss:.5f}"
        if not self._bar:
            self._said = time.monotonic()
            say(
                f"train: epoch {epoch.epoch}/{self._epochs}: training loss {epoch.train_loss:.5f}, "
                f"validation loss {epoch.validation_loss:.5f}{' (best)' if epoch.is_best else ''}, "
                f"{epoch.images_per_second:,.0f} images/s"
            )

    def _describe(self, position: Position | None) -> str | None:
        if position is None:
            return None
        return (
            f"epoch {position.epoch}/{self._epochs}, loss {position.loss:.5f}{self._validation}, "
            f"{position.images_per_second:,.0f} images/s"
        )
