"""Denoise image files with an exported model: onnxruntime and NumPy, no torch."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import click
import numpy as np

from pipeline.data.image_files import SUFFIXES, Picture, read_picture, write_picture
from pipeline.denoising.tiling import TILE, tiled
from pipeline.errors import PipelineError
from pipeline.files import sha256_file

_BATCH_PIXELS = 256 * 1024  # that go through the model at once, of small images of one size
_MODEL, _SUMS = "model.onnx", "SHA256SUMS"
_Key = TypeVar("_Key")  # whose picture it is


@dataclass(frozen=True)
class Model:
    """A float file, open in onnxruntime."""

    run: Callable[[np.ndarray], np.ndarray]  # noisy to denoised images, float32 [N, C, H, W]
    channels: int  # C
    halo: int  # see `pipeline.denoising.tiling`
    accepted: tuple[float, float]  # values beyond these are no noisy image
    clip_input: bool  # was trained on noise that was clipped to [0, 1]


@dataclass(frozen=True)
class Job:
    """A file to read, and where its denoised copy goes."""

    path: Path
    target: Path


@dataclass
class Progress:
    """What was done so far."""

    skipped: int = 0
    noisy: list[float] = field(default_factory=list)  # PSNR in dB of every image with noise added ...
    denoised: list[float] = field(default_factory=list)  # ... and of what became of it


def denoise(model: str, inputs: Sequence[Path], output: Path, variance: float, seed: int) -> None:
    """Write a denoised copy of every image in `inputs` to the folder `output`, under its own name.

    Args:
        model: a hand-off folder, an .onnx file of one, or an MLflow model URI.
        inputs: image files, and folders that are searched for such.
        output: made if it is not there.
        variance: of Gaussian noise that is added first; 0 for none.
        seed: of that noise; every image gets its own.

    Raises:
        PipelineError: the model cannot be used, there is nothing to do, an output would overwrite an input or
            another output, or, once all is done, some files were skipped.
    """
    jobs = list(_jobs(inputs, output))
    progress = Progress()
    with located_model(model) as path:
        network = open_model(path)
        terminal = sys.stderr.isatty()
        with click.progressbar(length=len(jobs), label="denoise", file=sys.stderr, hidden=not terminal) as bar:
            for batch in batches(_pictures(jobs, network, progress)):
                _denoise_batch(network, batch, variance, seed, progress)
                bar.update(len(batch))
    done = f"denoise: {len(jobs) - progress.skipped:,} of {len(jobs):,} files, in {output}"
    if progress.noisy:
        means = [sum(values) / len(values) for values in (progress.noisy, progress.denoised)]
        done += f"; PSNR to the originals: noisy {means[0]:.2f} dB, denoised {means[1]:.2f} dB"
    click.echo(done)
    if progress.skipped:
        raise PipelineError(f"{progress.skipped} of {len(jobs)} files were skipped")


def _denoise_batch(
    network: Model, batch: Sequence[tuple[Job, Picture]], variance: float, seed: int, progress: Progress
) -> None:
    """Denoise and write pictures of one shape and type."""
    inputs = [picture.pixels for _, picture in batch]
    dtype = inputs[0].dtype
    if variance:
        inputs = [
            _add_noise(pixels, variance, seed, job.path, network)
            for (job, _), pixels in zip(batch, inputs, strict=True)
        ]
    for (job, picture), noisy, pixels in zip(batch, inputs, denoise_images(network, inputs, dtype), strict=True):
        if variance:
            progress.noisy.append(_psnr(noisy, picture.pixels))
            progress.denoised.append(_psnr(pixels, picture.pixels))
        try:
            write_picture(picture, pixels, job.target)
        except OSError as error:
            raise PipelineError(f"cannot write {job.target}: {error.strerror or error}") from error


def _jobs(inputs: Sequence[Path], output: Path) -> Iterator[Job]:
    targets: dict[Path, Path] = {}
    for given in inputs:
        if given.is_dir():
            # What an earlier call wrote into a folder inside this one is no input.
            results = output.resolve() if given.resolve() in output.resolve().parents else None
            found = [
                (path, path.relative_to(given))
                for path in sorted(given.rglob("*"))
                if path.suffix.lower() in SUFFIXES
                and not path.name.startswith(".")
                and (path.is_file() or path.is_symlink())  # a broken link is told, like a broken file
                and results not in path.resolve().parents
            ]
            if not found:
                raise PipelineError(f"no images in {given} (looked for {', '.join(SUFFIXES)})")
        elif given.exists():
            found = [(given, Path(given.name))]
        else:
            raise PipelineError(f"{given} does not exist")
        for path, name in found:
            target = output / name
            if target in targets:
                raise PipelineError(f"{targets[target]} and {path} would both be written to {target}")
            if target.exists() and target.samefile(path):
                raise PipelineError(f"{path} would be overwritten; choose another --output than its own folder")
            targets[target] = path
            yield Job(path, target)


@contextmanager
def located_model(model: str) -> Iterator[Path]:
    """The .onnx file that `--model` means, whole and as it was handed off.

    Raises:
        PipelineError: there is none, or it is not the one that was handed off.
    """
    if ":/" in model and not Path(model).exists():
        from pipeline.tracking.registry import model_file

        with model_file(model) as path:
            yield path
        return
    path = Path(model)
    path = path / _MODEL if path.is_dir() else path
    if not path.is_file():
        raise PipelineError(f"--model {model}: there is no {path}; a hand-off folder or an MLflow model URI is needed")
    sums = path.with_name(_SUMS)
    if sums.is_file() and f"{sha256_file(path)}  {path.name}\n" not in sums.read_text(errors="replace"):
        raise PipelineError(f"--model {model}: {path} is not the file that {sums.name} lists; get the folder again")
    yield path


def open_model(path: Path, threads: int = 0) -> Model:
    """Open an .onnx file to run it on so many threads; 0 for one on each core.

    Raises:
        PipelineError: it cannot be opened, or is no float file of this pipeline.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        (noisy,) = session.get_inputs()
        facts = session.get_modelmeta().custom_metadata_map
        low, high = (float(number) for number in facts["accepted_range"].split())
        halo, clip = int(facts["halo"]), json.loads(facts["clip_input"])
    except KeyError as error:
        raise PipelineError(
            f"--model: {path} was not exported by this pipeline: it does not tell its {error}"
        ) from error
    except Exception as error:  # onnxruntime raises errors of its own
        raise PipelineError(f"--model: {path} cannot be opened: {error}") from error
    if noisy.type != "tensor(float)":
        raise PipelineError(f"--model: {path} takes {noisy.type}; the float file is needed, {_MODEL}")
    return Model(lambda images: session.run(None, {noisy.name: images})[0], noisy.shape[1], halo, (low, high), clip)


def _pictures(jobs: Sequence[Job], network: Model, progress: Progress) -> Iterator[tuple[Job, Picture]]:
    """Those that can be read and denoised; the others are told."""
    for job in jobs:
        try:
            picture = read_picture(job.path)
            check_picture(picture, network)
        except PipelineError as error:
            click.echo(f"skipped {job.path}: {' '.join(str(error).split())}", err=True)
            progress.skipped += 1
            continue
        yield job, picture


def batches(pictures: Iterable[tuple[_Key, Picture]]) -> Iterator[list[tuple[_Key, Picture]]]:
    """As many pictures at once as follow each other with one shape and type, up to `_BATCH_PIXELS`."""
    batch: list[tuple[_Key, Picture]] = []
    for key, picture in pictures:
        if batch:
            last = batch[-1][1].pixels
            same = (picture.pixels.shape, picture.pixels.dtype) == (last.shape, last.dtype)
            if not same or (len(batch) + 1) * last.size > _BATCH_PIXELS:
                yield batch
                batch = []
        batch.append((key, picture))
    if batch:
        yield batch


def check_picture(picture: Picture, network: Model) -> None:
    """See that `network` can denoise it.

    Raises:
        PipelineError: its values are not those of a noisy image, or it lacks a colour. The message does not name it.
    """
    pixels, (low, high) = picture.pixels, network.accepted
    if pixels.dtype == np.float32 and not (pixels.min() >= low and pixels.max() <= high):
        raise PipelineError(
            f"its values go from {pixels.min():g} to {pixels.max():g}, but noisy images on the [0, 1] scale do not "
            f"leave {low:g} to {high:g}; divide them by their white"
        )
    if network.channels == 3 and pixels.shape[1] != 3:
        raise PipelineError(f"has {pixels.shape[1]} colour channels; this model needs 3")


def _add_noise(pixels: np.ndarray, variance: float, seed: int, path: Path, network: Model) -> np.ndarray:
    """float32, with noise that depends on the file's name, and not on its place among others."""
    noisy = np.random.default_rng([seed, *path.name.encode()]).standard_normal(pixels.shape, np.float32)
    noisy *= np.float32(math.sqrt(variance))
    noisy += _to_floats(pixels)
    return noisy.clip(0, 1, out=noisy) if network.clip_input else noisy


def denoise_images(network: Model, inputs: Sequence[np.ndarray], dtype: np.dtype) -> list[np.ndarray]:
    """Denoised images of the type `dtype`, from images of that type or float32, all of one shape [N, C, H, W].

    Those of integers are clipped to their range; those of float32 are what the model gives. Large ones run in tiles.
    """
    images = np.concatenate(inputs) if len(inputs) > 1 else inputs[0]
    # A model of gray images sees every colour channel as an image of its own.
    denoised = _run(network, images.reshape(-1, network.channels, *images.shape[-2:]), dtype)
    return np.split(denoised.reshape(images.shape), len(inputs))


def _run(network: Model, images: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Denoised images of the type `dtype`, from images of that type or float32; large ones in tiles, one by one."""

    def run(part: np.ndarray) -> np.ndarray:
        denoised = network.run(_to_floats(part))
        if dtype == np.float32:
            return denoised
        return np.rint(denoised.clip(0, 1) * np.float32(np.iinfo(dtype).max)).astype(dtype)

    if max(images.shape[-2:]) <= TILE:
        return run(images)
    return np.concatenate([tiled(run, images[i : i + 1], network.halo) for i in range(len(images))])


def _to_floats(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.float32:
        return pixels
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def _psnr(pixels: np.ndarray, clean: np.ndarray) -> float:
    """In dB, of pixels clipped to [0, 1]; at most 100, as in `evaluate`."""
    difference = _to_floats(pixels).clip(0, 1) - _to_floats(clean)
    return min(100.0, -10 * math.log10(max(1e-10, float(np.square(difference).mean()))))
