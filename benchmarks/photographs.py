"""The released models for photographs beside the published ones: prints the tables in docs/results.md as Markdown.

    python -m benchmarks.photographs --gray artifacts/photo-gray --color artifacts/photo-color \\
        --sets FOLDER --pairs FOLDER [--best]

Every folder in that of --sets is a set of clean pictures, scored as `evaluate --protocol awgn` does, by the model for
its channels; what is published on a set is known by the digest of its pixels. --pairs is a folder of noisy and clean
pictures as in docs/own-images.md, of which the test part is scored. The pictures are not part of the project. With
--best, each model is also scored with `denoise --quality best`, which takes eight times as long.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.speed.timing import in_turn
from pipeline.config import AUTO, Config
from pipeline.data.images import Part
from pipeline.data.sources import open_source
from pipeline.denoising.model import located_model, open_model
from pipeline.errors import PipelineError
from pipeline.noise import make_noise
from pipeline.reports.tables import markdown_table
from pipeline.scoring import awgn
from pipeline.scoring.published import KNOWN_SETS
from pipeline.scoring.score import Denoiser
from pipeline.stages.evaluate_file import file_denoiser
from pipeline.stages.other_data import score_images

CLEAN = "clean"  # the label of no noise at all: what a model does to a clean picture
SIDE, ROUNDS = 1000, 5  # of the picture that is timed, one megapixel
GRAY, COLOUR = 1, 3  # channels


@dataclass(frozen=True)
class Released:
    """A hand-off."""

    name: str
    path: Path  # of the .onnx file
    parameters: int
    best: bool  # whether it is scored with --quality best, too

    @classmethod
    def open(cls, folder: Path, channels: int, best: bool) -> Released:
        with located_model(str(folder)) as path:
            found = open_model(path).channels
        if found != channels:
            raise PipelineError(f"{folder}: the model takes {found} channels, not {channels}")
        parameters = json.loads((folder / "manifest.json").read_text())["model"]["parameters"]
        return cls(f"`{folder.name}`", path, parameters, best)

    def denoisers(self, threads: int = 0) -> dict[str, Denoiser]:
        """By what the tables call them."""
        found = {f"**{self.name}**": file_denoiser(open_model(self.path, threads))}
        if self.best:
            found[f"**{self.name}**, `--quality best`"] = file_denoiser(open_model(self.path, threads, best=True))
        return found


Models = dict[int, Released]
"""By the channels of the pictures that they are for."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, meaning in (
        ("--gray", "hand-off of the model of gray pictures"),
        ("--color", "hand-off of the model of pictures in colour"),
        ("--sets", "folders of clean pictures"),
        ("--pairs", "noisy and clean pictures"),
    ):
        parser.add_argument(option, help=meaning, type=Path, metavar="FOLDER")
    parser.add_argument("--best", help="score --quality best, too", action="store_true")
    given = parser.parse_args(arguments)
    if not (given.gray or given.color):
        parser.error("give a model: --gray FOLDER, --color FOLDER, or both")
    try:
        handoffs = {GRAY: given.gray, COLOUR: given.color}
        models = {channels: Released.open(path, channels, given.best) for channels, path in handoffs.items() if path}
        if given.sets:
            for path in sorted(path for path in given.sets.iterdir() if path.is_dir()):
                _print_set(path, models)
        if given.pairs:
            _print_pairs(given.pairs, models)
        _print_files(models)
    except (PipelineError, OSError) as error:
        sys.exit(f"Error: {error}")


def _print_set(folder: Path, models: Models) -> None:
    """What is published on a set of clean pictures, and below it what the model for it scores."""
    part = _read(folder)
    if (model := _model_for(part, models, folder)) is None:
        return
    part = awgn.ordered(part)
    known = KNOWN_SETS.get(awgn.digest_of(part))
    rows = [
        [f"{row.method}: {row.source}", *(f"{row.psnr[label]:.2f}" for label in awgn.noises()), ""]
        for row in (known.rows if known else ())
    ]
    noises = {**awgn.noises(), CLEAN: make_noise("gaussian", "0")}
    for name, denoise in model.denoisers().items():
        found = [of["denoised"] for of in score_images(part, denoise, noises).values()]
        rows.append([name, *(f"{of['psnr']:.2f}" for of in found)])
        rows.append(["its SSIM", *(f"{of['ssim']:.4f}" for of in found)])
    head = ["PSNR in dB at sigma", *map(str, awgn.SIGMAS), "a clean picture given back"]
    title = f"{known.name}, {known.images}" if known else f"{folder.name}, {len(part)} pictures"
    print(f"{title}:\n\n{markdown_table([head, *rows])}", flush=True)


def _print_pairs(folder: Path, models: Models) -> None:
    """What the model scores on pictures whose noise was recorded."""
    part, noise = _read(folder), make_noise("recorded")
    if (model := _model_for(part, models, folder)) is None:
        return
    if part.clean is None:
        raise PipelineError(f"--pairs {folder}: there are no clean pictures to compare with")
    found = {
        name: score_images(part, denoise, {noise.label: noise})[noise.label]
        for name, denoise in model.denoisers().items()
    }
    scores = {
        "noisy picture": next(iter(found.values()))["noisy"],
        **{name: of["denoised"] for name, of in found.items()},
    }
    rows = [[name, f"{of['psnr']:.2f}", f"{of['ssim']:.4f}"] for name, of in scores.items()]
    print(f"Recorded noise, {len(part)} pictures:\n\n{markdown_table([['', 'PSNR in dB', 'SSIM'], *rows])}", flush=True)


def _print_files(models: Models) -> None:
    """What each model costs."""
    torch.set_num_threads(1)
    rows = [["", "parameters", "size of the file", "a megapixel on one thread"]]
    for channels, model in models.items():
        picture = torch.rand(1, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        times = in_turn(
            {name: partial(denoise, picture) for name, denoise in model.denoisers(threads=1).items()}, ROUNDS
        )
        size = f"{model.path.stat().st_size / 1e6:.1f} MB"
        for name, seconds in times.items():
            rows.append([name, f"{model.parameters:,}", size, f"{statistics.median(seconds):.2f} s"])
    print(markdown_table(rows))


def _read(folder: Path) -> Part:
    """The test part of a folder of pictures, or else all."""
    print(f"reading {folder}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        division = open_source(Config(dataset=str(folder))).divide(AUTO, Path(scratch))
    return division.train if division.test is None else division.test


def _model_for(part: Part, models: Models, folder: Path) -> Released | None:
    channels = part.images[0].shape[0]
    if channels not in models:
        print(f"left out: {folder}, as there is no model of {channels} channels", file=sys.stderr, flush=True)
    return models.get(channels)


if __name__ == "__main__":
    main()
