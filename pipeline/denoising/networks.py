"""Which model a picture goes through: the one that the caller names, or the released one that fits it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.filling import flat_areas, noise_deviation
from pipeline.data.image_files import Picture
from pipeline.data.images import Levels
from pipeline.denoising.model import Model, located_model, open_model
from pipeline.denoising.released import FOLDER, RELEASED
from pipeline.errors import PipelineError, counted

_GRAY_NOISE = 0.95  # the noise of the channels' mean, relative to that of each: 0.58 if they have noise of their own
_LEAST_NOISE = 2.5 / 255  # a standard deviation: with less, nothing can be said


@dataclass(frozen=True)
class Network:
    """A model, and what to call it."""

    name: str
    model: Model

    def way(self, picture: Picture) -> str:
        """In words, how a picture goes through the model."""
        channels = picture.pixels.shape[1]
        if self.model.channels == channels or (self.model.channels == 1 and is_gray(picture)):
            return self.name
        if channels == 1:
            return f"{self.name}, gray as equal red, green and blue"
        return f"{self.name}, each channel by itself"


@dataclass(frozen=True)
class Networks:
    """The models of a call, and what they were used for."""

    named: Network | None  # by the caller ...
    released: Mapping[int, Network]  # ... or else those that come with the repository, by their channels
    _ways: Counter[str] = field(default_factory=Counter)

    def of(self, picture: Picture) -> Network:
        """The model for a picture.

        Of the released ones, that for photographs in colour or that for gray ones. Two channels, the four inks of a
        printer, or more are so many gray images. So is what has colours, but the same noise in all of them: a gray
        picture with a coloured mark, a toned one, a JPEG whose colours were stored coarsely. The model for colour was
        trained on noise that differs between channels, and would leave it.
        """
        if self.named:
            return self.named
        if picture.pixels.shape[1] != 3 or is_gray(picture):
            return self.released[1]
        levels = self.released[3].model.levels.of(picture.pixels.dtype)
        return self.released[1 if has_gray_noise(picture, levels) else 3]

    def count(self, network: Network, picture: Picture) -> None:
        """Note that a picture went through a model."""
        self._ways[network.way(picture)] += 1

    @property
    def summary(self) -> str:
        """How many files went through which model, and how; "" if the caller's took all of them as they are."""
        if self.named and set(self._ways) <= {self.named.name}:
            return ""
        return "; ".join(f"{way}: {counted(count, 'file')}" for way, count in self._ways.items())


def is_gray(picture: Picture) -> bool:
    """Whether it has one channel, or red, green and blue that are equal."""
    pixels = picture.pixels
    return pixels.shape[1] == 1 or (pixels.shape[1] == 3 and bool((pixels == pixels[:, :1]).all()))


def has_gray_noise(picture: Picture, levels: Levels) -> bool:
    """Whether the first page of a picture in colour has the same noise in all channels, up to a factor."""
    pixels = picture.pixels[0]
    visible = ~flat_areas(picture.pixels[:1])[0]
    if picture.hidden is not None:
        visible &= ~picture.hidden[0]
    mean = pixels.mean(axis=0, keepdims=True, dtype=np.float32)
    each = noise_deviation(pixels, visible).mean()
    least = _LEAST_NOISE * (levels.white - levels.black)
    return bool(each >= least and noise_deviation(mean, visible)[0] >= _GRAY_NOISE * each)


@contextmanager
def open_networks(model: str, **options: Any) -> Iterator[Networks]:
    """The model that `model` means (see `located_model`), or the released ones if it is "".

    Args:
        options: of `open_model`.

    Raises:
        PipelineError: one of them cannot be used, or the released ones are not there.
    """
    with ExitStack() as stack:

        def opened(name: str) -> Network:
            return Network(Path(name).name, open_model(stack.enter_context(located_model(name)), **options))

        if model:
            yield Networks(opened(model), {})
        else:
            yield Networks(None, {channels: opened(str(folder)) for channels, folder in _released().items()})


def _released() -> dict[int, Path]:
    """The hand-off folders of the released models, by their channels."""
    missing = [name for name in RELEASED.values() if not (FOLDER / name).is_dir()]
    if missing:
        raise PipelineError(
            f"the models for photographs, {' and '.join(missing)}, are not in {FOLDER}; "
            "take them from a clone of the repository, or give any hand-off folder by --model"
        )
    return {channels: FOLDER / name for channels, name in RELEASED.items()}
