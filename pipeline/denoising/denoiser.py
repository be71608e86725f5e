"""A hand-off in a program: open it once, and denoise arrays. Needs no torch."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from numbers import Integral, Real
from pathlib import Path

import numpy as np

from pipeline.config import NUMBERS, STRENGTH, Interval
from pipeline.data.axes import to_batch
from pipeline.data.image_files import Picture
from pipeline.denoising.familiarity import ADVICE
from pipeline.denoising.levels import Dim
from pipeline.denoising.model import Model
from pipeline.denoising.networks import Networks, open_networks
from pipeline.errors import ArgumentError, PipelineError
from pipeline.spec import unknown

_QUALITIES = ("fast", "best")
_ALLOWED = {
    "strength": STRENGTH,
    "white": NUMBERS["white"],
    "black": NUMBERS["black"],
    "threads": Interval(int, 0, 1024),
}


@dataclass(frozen=True)
class Denoiser:
    """What `load` has opened."""

    _networks: Networks

    @property
    def channels(self) -> tuple[int, ...]:
        """What the C of an array may be: 1 for gray, 3 for colour, and what the model was trained on."""
        named = self._networks.named
        return tuple(sorted({1, 3, named.model.channels} if named else {1, 3}))

    def denoise(self, array: np.ndarray) -> np.ndarray:
        """A denoised copy of an image or of a batch of images; as the command `denoise`, image by image.

        Warns of an image that does not look like what the model was trained on, and of one that is so dark that its
        white may be another value than the largest of its type.

        Args:
            array: uint8 or uint16, black at 0 and white at the largest value, or floats, black at 0 and white at 1
                (unless the model was trained on others, or `load` was told so), of the shape [H, W], [H, W, C],
                [N, C, H, W] or [N, H, W, C]. Four axes are [N, C, H, W] if the second one can be C.

        Returns:
            An array of the same shape and type. Integers are clipped to black and white, floats are not.

        Raises:
            PipelineError: it is no such array, or its values are not those of a noisy image.
        """
        with _naming_arguments():
            images, back = to_batch(array, self.channels)
            denoised, models = self._denoise(images)
        _warn(models, images, denoised)
        return back(denoised)

    def _denoise(self, images: np.ndarray) -> tuple[np.ndarray, list[Model]]:
        """Denoised images [N, C, H, W], and the model of each."""
        models = [self._model_of(images, number) for number in range(len(images))]
        parts, start = [], 0
        for _, same in groupby(models, key=id):
            stop = start + len([*same])
            parts += models[start].denoise([images[start:stop]], images.dtype)
            start = stop
        return parts[0] if len(parts) == 1 else np.concatenate(parts), models

    def _model_of(self, images: np.ndarray, number: int) -> Model:
        """The model for an image, which can denoise it."""
        picture = Picture(images[number : number + 1], None, "array", lambda pixels: pixels.tobytes())
        model = self._networks.of(picture).model
        try:
            model.check(picture)
        except PipelineError as error:
            raise type(error)(f"{_name(number, len(images))}: {error}") from error
        return model


def _warn(models: list[Model], images: np.ndarray, denoised: np.ndarray) -> None:
    """Of images that are strange or dim."""
    dim = Dim()
    for number, model in enumerate(models):
        name, one = _name(number, len(images)), slice(number, number + 1)
        if any(model.are_strange([images[one]], [denoised[one]], images.dtype)):
            warnings.warn(f"{name}: {ADVICE}", stacklevel=3)
        if not model.levels.is_known(images.dtype):
            dim.look_at(name, images[one])
    for line in dim.warnings:
        warnings.warn(_in_python(line.removeprefix("warning: ")), stacklevel=3)


def _name(number: int, count: int) -> str:
    return "the array" if count == 1 else f"image {number} of the array"


def load(
    model: str | Path = "",
    *,
    strength: float = 1.0,
    quality: str = "fast",
    white: float | None = None,
    black: float | None = None,
    threads: int = 0,
) -> Denoiser:
    """Open a hand-off, to denoise arrays with it. Needs no torch.

    Args:
        model: a hand-off folder, its .onnx file, the name of a released model, or an MLflow model URI; "" for the
            released model for photographs, in colour or gray, that fits each image.
        strength: share of the noise found that is removed, from 0 to 1.5.
        quality: "fast", or "best": the mean over all turns and flips, which takes eight times as long.
        white, black: the pixel values that stand for 1 and 0, if not the model's or those of the type.
        threads: to run on; 0 for one per core.

    Raises:
        PipelineError: the model cannot be used, or an argument is not allowed.
    """
    numbers = {"strength": strength, "white": white, "black": black, "threads": threads}
    with _naming_arguments():
        for name, value in numbers.items():
            if value is not None or name not in ("white", "black"):
                _check_number(name, value)
        if quality not in _QUALITIES:
            raise unknown("--quality", str(quality), _QUALITIES)
        with open_networks(str(model), best=quality == "best", **numbers) as networks:
            return Denoiser(networks)  # which is in memory


def _check_number(name: str, value: object) -> None:
    """Raise an `ArgumentError` if an argument of `load` is no number that it may be."""
    kind = Integral if _ALLOWED[name].kind is int else Real
    if isinstance(value, bool) or not isinstance(value, kind) or not _ALLOWED[name].admit(float(value)):
        raise ArgumentError(f"--{name}: {value!r} is not {_ALLOWED[name]}")


@contextmanager
def _naming_arguments() -> Iterator[None]:
    """Errors name arguments instead of the options of the command line."""
    try:
        yield
    except PipelineError as error:
        raise type(error)(_in_python(str(error))) from error


def _in_python(text: str) -> str:
    """A message for the command line, with `white=4095` for `--white 4095`, and `white` for `--white`."""
    return re.sub(r"--(white|black) (-?[\d.]+|N\b)|--(model|strength|quality|white|black|threads)\b", _argument, text)


def _argument(found: re.Match[str]) -> str:
    name, value, alone = found.groups()
    return f"{name}={value}" if name else alone
