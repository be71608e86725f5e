"""The command `denoise`: image files in, denoised image files out."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np

from pipeline.data.filling import filled
from pipeline.data.finding import find_images
from pipeline.data.image_files import FORMATS, MAX_PIXELS, Picture, read_picture
from pipeline.data.images import Levels, psnr_of_error
from pipeline.denoising.familiarity import ADVICE
from pipeline.denoising.levels import Dim
from pipeline.denoising.model import BATCH_PIXELS, Model, batches, with_hidden
from pipeline.denoising.networks import Network, Networks, open_networks
from pipeline.denoising.overlap import overlapped
from pipeline.denoising.progress import ProgressDisplay
from pipeline.denoising.results import Results
from pipeline.errors import ArgumentError, PipelineError, counted
from pipeline.text import printable, say

_NO_FILE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # errors with which no file can be written


@dataclass(frozen=True)
class Job:
    """A file to read, and where its denoised copy goes."""

    path: Path
    target: Path


@dataclass(frozen=True)
class Batch:
    """Pictures of one shape and type, on their way through a model."""

    model: Model
    found: Sequence[tuple[Job, Picture]]
    clean: list[np.ndarray]  # their pixels, [1, C, H, W] each
    noisy: list[np.ndarray]  # what goes into the model: those, or those with noise added

    @property
    def dtype(self) -> np.dtype:
        """Of the pixels as they were read."""
        return self.clean[0].dtype

    def denoise(self) -> list[np.ndarray]:
        """The denoised pixels."""
        return self.model.denoise(self.noisy, self.dtype)

    def is_small(self) -> bool:
        """Whether the model is done with them in a moment."""
        return len(self.found) * self.clean[0].size <= BATCH_PIXELS


@dataclass
class Outcome:
    """What has come of the files so far."""

    skipped: int = 0
    noisy: list[float] = field(default_factory=list)  # PSNR in dB of every image with noise added ...
    denoised: list[float] = field(default_factory=list)  # ... and of its denoised copy
    dim: Dim = field(default_factory=Dim)
    left_out: dict[str, list[str]] = field(default_factory=dict)  # files, by what is not in their results

    def skip(self, job: Job, why: str) -> None:
        """Report a file for which there is no result."""
        say(f"skipped {printable(job.path)}: {' '.join(why.split())}", err=True)
        self.skipped += 1


def denoise(
    model: str,
    inputs: Sequence[Path],
    output: Path,
    variance: float = 0,
    seed: int = 0,
    white: float | None = None,
    black: float | None = None,
    strength: float = 1,
    quality: str = "fast",
    overwrite: bool = False,
    strict: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> None:
    """Write a denoised copy of every file in `inputs` to the folder `output`, in its own form and under its own name.

    Args:
        model: a hand-off folder, its .onnx file, or an MLflow model URI; "" for the released one that fits a picture.
        inputs: image files, and folders that are searched for image files.
        output: a folder; created if it does not exist.
        variance: of Gaussian noise to add first, where black is 0 and white is 1; 0 for none.
        seed: of that noise; every image gets its own.
        white, black: the pixel values that stand for 1 and 0, see `pipeline.denoising.levels`.
        strength: from 0, which copies the files, to 1.5; see `pipeline.denoising.strength`.
        quality: "fast", or "best": the mean over all turns and flips, which takes eight times as long.
        overwrite: replace also files that are no results of `denoise`.
        strict: skip pictures that do not look like what the model was trained on, instead of warning of them.
        max_pixels: of a file; one that claims more is skipped.

    Raises:
        PipelineError: the model cannot be used, there is nothing to do, an output would overwrite an input, another
            output, or a file that is none; the folder cannot be written to; or, after everything else is done, some
            files were skipped.
    """
    jobs = list(_jobs(inputs, output))
    results = _results(output, jobs, overwrite)
    outcome = Outcome()
    opened = open_networks(model, white=white, black=black, strength=strength, best=quality == "best")
    with opened as networks, ProgressDisplay(len(jobs)) as display:
        pictures = _pictures(jobs, networks, outcome, display, max_pixels)
        for batch, denoised in overlapped(Batch.denoise, _batches(pictures, variance, seed), Batch.is_small):
            _write_batch(batch, denoised, outcome, results, strict)
            display.update(len(batch.found))
    _report(outcome, networks.summary, len(jobs), output)


def _report(outcome: Outcome, networks: str, files: int, output: Path) -> None:
    """Say what was done.

    Raises:
        PipelineError: some files were skipped.
    """
    for warning in outcome.dim.warnings:
        say(warning, err=True)
    for what, names in outcome.left_out.items():
        more = f" (and {len(names) - 1:,} more)" if len(names) > 1 else ""
        say(f"denoise: not in the result: {what}: {names[0]}{more}", err=True)
    if networks:
        say(f"denoise: {networks}")
    done = f"denoise: {files - outcome.skipped:,} of {counted(files, 'file')}, in {printable(output)}"
    if outcome.noisy:
        noisy, denoised = (sum(values) / len(values) for values in (outcome.noisy, outcome.denoised))
        done += f"; PSNR to the originals: noisy {noisy:.2f} dB, denoised {denoised:.2f} dB"
    say(done)
    if outcome.skipped:
        were = "was" if outcome.skipped == 1 else "were"
        raise PipelineError(f"{outcome.skipped:,} of {counted(files, 'file')} {were} skipped")


def _jobs(inputs: Sequence[Path], output: Path) -> Iterator[Job]:
    targets: dict[Path, Path] = {}
    for given in inputs:
        for path, name in _found(given, output):
            target = output / name
            if target in targets:
                raise ArgumentError(
                    f"{printable(targets[target])} and {printable(path)} would both be written to {printable(target)}"
                )
            if target.exists() and target.samefile(path):
                raise ArgumentError(
                    f"{printable(path)} would be overwritten; choose an --output other than its own folder"
                )
            targets[target] = path
            yield Job(path, target)


def _results(output: Path, jobs: Sequence[Job], overwrite: bool) -> Results:
    """The output folder.

    Raises:
        PipelineError: it cannot be read, or has files in the places of results that are none, and may not be
            overwritten.
    """
    try:
        results = Results(output)
        foreign = [] if overwrite else [job.target for job in jobs if results.is_foreign(job.target)]
    except OSError as error:
        raise PipelineError(f"cannot read {printable(output)}: {error.strerror or error}") from error
    if foreign:
        more = f" (and {len(foreign) - 1:,} more)" if len(foreign) > 1 else ""
        raise ArgumentError(
            f"{printable(foreign[0])}{more} would be overwritten, but was not written by denoise, or was changed "
            "since; choose another --output, or pass --overwrite"
        )
    return results


def _found(given: Path, output: Path) -> list[tuple[Path, Path]]:
    """The files that `given` means, and their names below the output folder."""
    if not given.exists():
        raise ArgumentError(f"{printable(given)} does not exist")
    if not given.is_dir():
        return [(given, Path(given.name))]
    found = find_images(given, without=output)  # where an earlier call may have written its results
    if not found.images:
        raise PipelineError(f"no images in {printable(given)} ({FORMATS})")
    if found.left_out:
        say(f"denoise: {found.left_out}", err=True)
    return [(path, path.relative_to(given)) for path in found.images]


def _pictures(
    jobs: Sequence[Job], networks: Networks, outcome: Outcome, display: ProgressDisplay, max_pixels: int
) -> Iterator[tuple[Network, Job, Picture]]:
    """The pictures that can be read and denoised, and by which model; the others are reported and counted."""
    for job in jobs:
        try:
            picture = read_picture(job.path, max_pixels)
            network = networks.of(picture)
            network.model.check(picture)
        except PipelineError as error:
            outcome.skip(job, str(error))
            display.update()
            continue
        if not network.model.levels.is_known(picture.pixels.dtype):
            outcome.dim.look_at(printable(job.path), picture.pixels)
        networks.count(network, picture)
        yield network, job, picture


def _batches(pictures: Iterable[tuple[Network, Job, Picture]], variance: float, seed: int) -> Iterator[Batch]:
    """Pictures of one shape and type that go through one model, with noise added if that is asked for."""
    for network, found in groupby(pictures, key=lambda found: found[0]):
        model = network.model
        for batch in batches((job, picture) for _, job, picture in found):
            clean = [filled(picture.pixels, picture.hidden, with_noise=True) for _, picture in batch]
            noisy = clean
            if variance:
                levels = model.levels.of(clean[0].dtype)
                noisy = [
                    _add_noise(pixels, variance, seed, job.path, levels, model.clip_input)
                    for (job, _), pixels in zip(batch, clean, strict=True)
                ]
            yield Batch(model, batch, clean, noisy)


def _write_batch(
    batch: Batch, denoised: Sequence[np.ndarray], outcome: Outcome, results: Results, strict: bool
) -> None:
    """Write what has become of the pictures of a batch."""
    model, dtype, has_noise = batch.model, batch.dtype, batch.noisy is not batch.clean
    strange = model.are_strange(batch.noisy, denoised, dtype)
    for (job, picture), before, noisy, after, is_strange in zip(
        batch.found, batch.clean, batch.noisy, denoised, strange, strict=True
    ):
        if is_strange:
            if strict:
                outcome.skip(job, ADVICE)
                continue
            say(f"warning: {printable(job.path)}: {ADVICE}", err=True)
        is_copy = model.strength == 0 and not has_noise  # then also what saving as JPEG would change stays
        try:
            data = job.path.read_bytes() if is_copy else picture.encode(with_hidden(picture, after))
        except Exception as error:  # what an encoder raises can be anything
            outcome.skip(job, f"it cannot be written as {picture.format}: {error or type(error).__name__}")
            continue
        try:
            results.write(job.target, data)
        except OSError as error:
            if error.errno in _NO_FILE:
                raise PipelineError(f"cannot write {printable(job.target)}: {error.strerror}") from error
            outcome.skip(job, f"cannot write {printable(job.target)}: {error.strerror or error}")
            continue
        for what in () if is_copy else picture.left_out:
            outcome.left_out.setdefault(what, []).append(printable(job.path))
        if has_noise:
            levels = model.levels.of(dtype)
            outcome.noisy.append(_psnr(noisy, before, levels))
            outcome.denoised.append(_psnr(after, before, levels))


def _add_noise(pixels: np.ndarray, variance: float, seed: int, path: Path, levels: Levels, clip: bool) -> np.ndarray:
    """Pixels in float32, with noise that depends on the file's name, not on its place among other files."""
    noisy = np.random.default_rng([seed, *os.fsencode(path.name)]).standard_normal(pixels.shape, np.float32)
    noisy *= np.float32(math.sqrt(variance))
    noisy += levels.to_floats(pixels)
    return levels.from_floats(noisy.clip(0, 1, out=noisy) if clip else noisy, np.float32)


def _psnr(pixels: np.ndarray, clean: np.ndarray, levels: Levels) -> float:
    """In dB, of pixels clipped to black and white."""
    difference = levels.to_floats(pixels).clip(0, 1) - levels.to_floats(clean)
    return float(psnr_of_error(float(np.square(difference).mean())))
