"""The released models for photographs beside the published ones: prints the tables in docs/results.md as Markdown.

    python -m benchmarks.photographs --gray artifacts/photo-gray --color artifacts/photo-color \\
        --sets FOLDER --pairs FOLDER

Every folder in that of --sets is a set of clean pictures, scored as `evaluate --protocol awgn` does, by the model for
its channels; what is published on a set is known by the digest of its pixels. --pairs is a folder of noisy and clean
pictures as in docs/own-images.md, of which the test part is scored. The pictures are not part of the project.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
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
    denoise: Denoiser
    parameters: int

    @classmethod
    def open(cls, folder: Path, channels: int) -> Released:
        with located_model(str(folder)) as path:
            network = open_model(path)
        if network.channels != channels:
            raise PipelineError(f"{folder}: the model takes {network.channels} channels, not {channels}")
        parameters = json.loads((folder / "manifest.json").read_text())["model"]["parameters"]
        return cls(f"`{folder.name}`", path, file_denoiser(network), parameters)


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
    given = parser.parse_args(arguments)
    if not (given.gray or given.color):
        parser.error("give a model: --gray FOLDER, --color FOLDER, or both")
    try:
        handoffs = {GRAY: given.gray, COLOUR: given.color}
        models = {channels: Released.open(path, channels) for channels, path in handoffs.items() if path}
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
    found = score_images(part, model.denoise, {**awgn.noises(), CLEAN: make_noise("gaussian", "0")})
    known = KNOWN_SETS.get(awgn.digest_of(part))
    rows = [
        [f"{row.method}: {row.source}", *(f"{row.psnr[label]:.2f}" for label in awgn.noises()), ""]
        for row in (known.rows if known else ())
    ]
    for name, metric, digits in ((f"**{model.name}**", "psnr", 2), (f"SSIM of {model.name}", "ssim", 4)):
        rows.append([name, *(f"{of['denoised'][metric]:.{digits}f}" for of in found.values())])
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
    found = score_images(part, model.denoise, {noise.label: noise})[noise.label]
    rows = [
        [name, f"{found[key]['psnr']:.2f}", f"{found[key]['ssim']:.4f}"]
        for name, key in (("noisy picture", "noisy"), (f"**{model.name}**", "denoised"))
    ]
    print(f"Recorded noise, {len(part)} pictures:\n\n{markdown_table([['', 'PSNR in dB', 'SSIM'], *rows])}", flush=True)


def _print_files(models: Models) -> None:
    head = ["", "parameters", "size of the file", "a megapixel on one thread"]
    print(markdown_table([head, *(_row_of_file(model, channels) for channels, model in models.items())]))


def _row_of_file(model: Released, channels: int) -> Sequence[str]:
    picture = torch.rand(1, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    denoise = file_denoiser(open_model(model.path, threads=1))
    torch.set_num_threads(1)
    seconds = statistics.median(in_turn({"": lambda: denoise(picture)}, ROUNDS)[""])
    return [model.name, f"{model.parameters:,}", f"{model.path.stat().st_size / 1e6:.1f} MB", f"{seconds:.2f} s"]


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
