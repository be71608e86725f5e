"""An exported model: finding its file, opening it, and running it on images. onnxruntime and NumPy, no torch."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pipeline.data.filling import filled, flat_areas
from pipeline.data.image_files import Picture
from pipeline.data.images import Levels
from pipeline.denoising.familiarity import Limits
from pipeline.denoising.levels import ChosenLevels
from pipeline.denoising.released import hint, path_of
from pipeline.denoising.strength import with_strength
from pipeline.denoising.tiling import tile_side, tiled
from pipeline.denoising.trial import check_model
from pipeline.denoising.turns import in_all_turns
from pipeline.errors import ArgumentError, ParityError, PipelineError, counted
from pipeline.files import sha256_file

if TYPE_CHECKING:
    import onnxruntime

BATCH_PIXELS = 256 * 1024  # pixels that go through the model at once when images are small and of one size
_TINY, _MARGIN = 16, 8  # pixels: a side of a tiny image at most, and what is added to both of its ends
_SECONDS = 600.0  # for a tile or a batch, which takes about one
_MAX_HALO = 1024  # pixels: with more, a tile would not be smaller than most images, nor fit into memory
_MODEL, _SUMS = "model.onnx", "SHA256SUMS"
_Key = TypeVar("_Key")  # whatever the caller knows a picture by


@dataclass(frozen=True)
class Model:
    """A float model, open in onnxruntime."""

    run: Callable[[np.ndarray], np.ndarray]  # noisy to denoised images, float32 [N, C, H, W]
    channels: int  # C
    halo: int  # pixels; see `pipeline.denoising.tiling`
    accepted: tuple[float, float]  # a noisy image has no values outside this range
    clip_input: bool  # trained on noisy images that were clipped to [0, 1]
    levels: ChosenLevels = field(default_factory=ChosenLevels)  # which pixel values are white and black
    familiar: Limits | None = None  # what it removes from images of the kind it knows; None where the file does not say
    strength: float = 1.0  # see `pipeline.denoising.strength`
    best: bool = False  # take the mean over all turns and flips, which takes eight times as long
    fills_flat: bool = False  # has not learned from images with exactly flat areas, see `pipeline.data.filling`

    def check(self, picture: Picture) -> None:
        """Make sure that the model can denoise `picture`.

        Raises:
            PipelineError: its values are not those of a noisy image, or it has other channels. The message does not
                name the picture.
        """
        pixels = picture.pixels
        self.levels.check(pixels, self.accepted)
        if self.channels not in (1, 3, pixels.shape[1]):
            raise PipelineError(f"it has {counted(pixels.shape[1], 'channel')}, but this model needs {self.channels}")

    def denoise(self, inputs: Sequence[np.ndarray], dtype: np.dtype) -> list[np.ndarray]:
        """Denoised images, one for each input and of its shape. Large ones run in tiles, in bounded memory.

        A model of gray images, or in colour, takes images of any other number of channels, too: each channel is an
        image of its own. What is gray goes through a model in colour as equal red, green and blue, whose results are
        averaged.

        Args:
            inputs: pixels, all of one shape [N, C, H, W], of the type `dtype` or float32.
            dtype: of the result, and of the pixels that the levels are those of: uint8 or uint16, clipped to black and
                white, or float32, not clipped.
        """
        images = np.concatenate(inputs) if len(inputs) > 1 else inputs[0]
        if images.dtype == dtype and self.strength == 0:
            denoised = images
        elif images.dtype == dtype and self.fills_flat:
            flat = flat_areas(images)  # without noise: they stay
            denoised = self._run_channels(filled(images, flat, with_noise=True), dtype)
            np.copyto(denoised, images, where=flat[:, np.newaxis])
        else:
            denoised = self._run_channels(images, dtype)
        return np.split(denoised, len(inputs))

    def denoise_pictures(self, pictures: Sequence[Picture]) -> list[np.ndarray]:
        """The pixels of denoised pictures of one shape and type. What is transparent stays as it is, unseen."""
        inputs = [filled(picture.pixels, picture.hidden, with_noise=True) for picture in pictures]
        return [
            with_hidden(picture, pixels)
            for picture, pixels in zip(pictures, self.denoise(inputs, inputs[0].dtype), strict=True)
        ]

    def are_strange(
        self, noisy: Sequence[np.ndarray], denoised: Sequence[np.ndarray], dtype: np.dtype
    ) -> Sequence[bool]:
        """Which pictures do not look like what the model was trained on, see `pipeline.denoising.familiarity`.

        Args:
            noisy: what went into `denoise`.
            denoised: what came out.
            dtype: of the pixels that the levels are those of.
        """
        if self.familiar is None:
            return [False] * len(noisy)
        before, after = (of[0][np.newaxis] if len(of) == 1 else np.stack(of) for of in (noisy, denoised))
        return self.familiar.are_exceeded(before, after, self.levels.of(dtype).to_floats).tolist()

    def _run_channels(self, images: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Images of any number of channels, denoised."""
        if images.shape[1] == self.channels:
            return self._run(images, dtype)
        if images.shape[1] == 3 and (images == images[:, :1]).all():  # gray that is stored in colour: once is enough
            return np.repeat(self._run(images[:, :1], dtype), 3, axis=1)
        return self._run(images.reshape(-1, 1, *images.shape[-2:]), dtype).reshape(images.shape)

    def _run(self, images: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Images of the model's channels, or of one, denoised with the strength and the quality that are asked for."""
        levels = self.levels.of(dtype)

        def run(part: np.ndarray) -> np.ndarray:
            if part.shape[1] == self.channels:
                return _with_margins(self.run, part)
            return _with_margins(self.run, np.repeat(part, self.channels, axis=1)).mean(axis=1, keepdims=True)

        def run_on_pixels(part: np.ndarray) -> np.ndarray:
            return levels.from_floats(with_strength(run, levels.to_floats(part), self.strength), dtype)

        if self.strength <= 1 and not self.best:  # tile by tile: there is no copy of a large image in floats
            return self._in_parts(run_on_pixels, images)
        whole = partial(self._in_parts, run)
        denoiser = partial(in_all_turns, whole) if self.best else whole
        return levels.from_floats(with_strength(denoiser, levels.to_floats(images), self.strength), dtype)

    def _in_parts(self, run: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
        """`run` on small images in batches, and on large ones in tiles."""
        side = tile_side(self.halo)
        if max(images.shape[-2:]) <= side:
            count = max(1, BATCH_PIXELS // images[0].size)
            parts = [run(images[start : start + count]) for start in range(0, len(images), count)]
        else:
            parts = [tiled(run, images[start : start + 1], self.halo, side) for start in range(len(images))]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _with_margins(run: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """`run`, on images that are mirrored at their edges first where they are tiny.

    Else the zeros that convolutions see beyond the edges would weigh as much as the image: pictures of 2 to 8 pixels
    lost 2 to 6 dB by it.
    """
    rows, columns = (_MARGIN if side <= _TINY else 0 for side in images.shape[-2:])
    if not rows and not columns:
        return run(images)
    height, width = images.shape[-2:]
    mirrored = np.pad(images, ((0, 0), (0, 0), (rows, rows), (columns, columns)), mode="symmetric")
    return run(mirrored)[..., rows : rows + height, columns : columns + width]


def with_hidden(picture: Picture, pixels: np.ndarray) -> np.ndarray:
    """Denoised pixels of a picture, but as they were where it is transparent."""
    if picture.hidden is None:
        return pixels
    return np.where(picture.hidden[:, np.newaxis], picture.pixels, pixels)


@contextmanager
def located_model(model: str) -> Iterator[Path]:
    """The path of the .onnx file that `model` means.

    Args:
        model: a hand-off folder, an .onnx file, the name of a released model, or an MLflow model URI.

    Raises:
        ArgumentError: there is no such file.
        ParityError: it is not the one that was handed off.
    """
    if ":/" in model and not Path(model).exists():
        from pipeline.tracking.registry import model_file

        with model_file(model) as path:
            yield path
        return
    path = path_of(model)
    path = path / _MODEL if path.is_dir() else path
    if not path.is_file():
        raise ArgumentError(
            f"--model {model}: {path} does not exist; give a hand-off folder, its .onnx file, or an MLflow model URI"
            f"{hint(model)}"
        )
    sums = path.with_name(_SUMS)
    if sums.is_file() and f"{sha256_file(path)}  {path.name}\n" not in sums.read_text(errors="replace"):
        raise ParityError(
            f"--model {model}: {path} is damaged or was changed: {sums.name} lists another digest; "
            "get the hand-off folder again"
        )
    yield path


def open_model(
    path: Path,
    threads: int = 0,
    white: float | None = None,
    black: float | None = None,
    strength: float = 1.0,
    best: bool = False,
    is_tried: bool = False,
) -> Model:
    """Open an .onnx file in onnxruntime.

    Args:
        path: of the file.
        threads: to run on; 0 for one per core.
        white, black: the pixel values of pictures that stand for 1 and 0. By default what the file says, for pictures
            of the type that it was trained on, and else the range of their type.
        strength, best: see `Model`.
        is_tried: it has passed `check_model`.

    Raises:
        ArgumentError: the file cannot be opened, or is not a float model of this pipeline.
    """
    import onnxruntime

    try:
        if not is_tried:
            check_model(path)
    except (ArgumentError, OSError) as error:
        raise ArgumentError(f"--model: {error}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        (noisy,) = session.get_inputs()
        facts = session.get_modelmeta().custom_metadata_map
        low, high = (float(number) for number in facts["accepted_range"].split())
        halo, clip = int(facts["halo"]), json.loads(facts["clip_input"])
        if not 0 <= halo <= _MAX_HALO:
            raise ValueError(f"its halo is {halo}, not 0 to {_MAX_HALO}")
        familiar = Limits.parse(facts["removed_correlation"]) if "removed_correlation" in facts else None
        trained = Levels(float(facts["white"]), float(facts["black"])) if "pixel_type" in facts else None
    except KeyError as error:
        raise ArgumentError(f"--model: {path} was not exported by this pipeline: its metadata lacks {error}") from error
    except Exception as error:  # onnxruntime raises errors of its own
        raise ArgumentError(f"--model: {path} cannot be opened: {error}") from error
    if noisy.type != "tensor(float)":
        raise ArgumentError(f"--model: {path} takes {noisy.type}; use the float model, {_MODEL}")
    levels = ChosenLevels(white, black, trained, facts.get("pixel_type", ""))

    run = partial(_answer, path, session, noisy.name)
    fills_flat = facts.get("dataset") == "photos"
    return Model(run, noisy.shape[1], halo, (low, high), clip, levels, familiar, strength, best, fills_flat)


def _answer(path: Path, session: onnxruntime.InferenceSession, name: str, images: np.ndarray) -> np.ndarray:
    """What a model makes of a batch or a tile; between two of its operators it is stopped if that takes too long.

    Raises:
        PipelineError: it took too long.
    """
    import onnxruntime

    options = onnxruntime.RunOptions()
    limit = threading.Timer(_SECONDS, setattr, (options, "terminate", True))
    limit.daemon = True
    limit.start()
    try:
        return session.run(None, {name: images}, options)[0]
    except Exception as error:
        if not options.terminate:
            raise
        shape = "x".join(map(str, images.shape))
        raise PipelineError(f"--model: {path} gave no answer for {shape} values in {_SECONDS:g} s") from error
    finally:
        limit.cancel()


def batches(pictures: Iterable[tuple[_Key, Picture]]) -> Iterator[list[tuple[_Key, Picture]]]:
    """Group consecutive pictures of one shape and type, up to `BATCH_PIXELS` pixels per group."""
    batch: list[tuple[_Key, Picture]] = []
    for key, picture in pictures:
        if batch:
            last = batch[-1][1].pixels
            same = (picture.pixels.shape, picture.pixels.dtype) == (last.shape, last.dtype)
            if not same or (len(batch) + 1) * last.size > BATCH_PIXELS:
                yield batch
                batch = []
        batch.append((key, picture))
    if batch:
        yield batch
