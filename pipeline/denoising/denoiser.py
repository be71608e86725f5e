"""A hand-off in a program: open it once, and denoise arrays. Needs no torch."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from pipeline.config import NUMBERS, STRENGTH
from pipeline.data.axes import to_batch
from pipeline.data.image_files import Picture
from pipeline.denoising.familiarity import ADVICE
from pipeline.denoising.levels import Dim
from pipeline.denoising.model import Model
from pipeline.denoising.networks import Networks, open_networks
from pipeline.errors import ArgumentError, PipelineError
from pipeline.spec import unknown

_QUALITIES = ("fast", "best")


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
        images, back = to_batch(array, self.channels)
        models = [self._model_of(images, number) for number in range(len(images))]
        parts, start = [], 0
        for _, same in groupby(models, key=id):
            stop = start + len([*same])
            parts += models[start].denoise([images[start:stop]], images.dtype)
            start = stop
        denoised = parts[0] if len(parts) == 1 else np.concatenate(parts)
        _warn(models, images, denoised)
        return back(denoised)

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
    if dim.warning:
        warnings.warn(dim.warning.removeprefix("warning: "), stacklevel=3)


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
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not STRENGTH.admit(strength):
        raise ArgumentError(f"--strength: {strength!r} is not {STRENGTH}")
    if quality not in _QUALITIES:
        raise unknown("--quality", str(quality), _QUALITIES)
    for name, value in (("white", white), ("black", black)):
        if value is not None and not NUMBERS[name].admit(value):
            raise ArgumentError(f"--{name}: {value!r} is not {NUMBERS[name]}")
    options = {"strength": strength, "best": quality == "best", "white": white, "black": black, "threads": threads}
    with open_networks(str(model), **options) as networks:
        return Denoiser(networks)  # which is in memory
