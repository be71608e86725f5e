"""The commands for whoever was given a hand-off folder: verify, denoise and demo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from pipeline.cli.exits import fail
from pipeline.cli.help import Command
from pipeline.cli.options import with_options
from pipeline.cli.types import Number
from pipeline.config import STRENGTH
from pipeline.denoising.released import hint, path_of
from pipeline.text import say

_SECTION = "Use a hand-off"  # the heading in the list of commands


class _HandOff(click.Path):
    """A hand-off folder, or the name of a released model."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(path_of(os.fspath(value)), param, ctx)
        except click.BadParameter as error:
            if not (meant := hint(os.fspath(value))):
                raise
            raise click.BadParameter(error.message.removesuffix(".") + meant, ctx, param) from error


_FOLDER = _HandOff(exists=True, file_okay=False, path_type=Path)


@click.command("verify", cls=Command, section=_SECTION, examples=["artifacts/mnist-blind --runtime all"])
@click.argument("folder", type=_FOLDER)
@with_options("runtime")
def verify_command(folder: Path, runtime: str) -> None:
    """Check the hand-off FOLDER: its checksums, its ONNX files, and their output in a runtime. Needs no torch."""
    from pipeline.verification.command import report

    table, error, code = report(folder, runtime)
    if table:
        say(*table.splitlines())
    if error:
        fail(error, code)


@click.command(
    "denoise",
    cls=Command,
    section=_SECTION,
    examples=[
        "photo.jpg scans/ --output denoised",
        "photo.jpg --output denoised --strength 0.7 --quality best",
        "photo.png --model models:/digits@champion --output denoised",
    ],
)
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--model",
    "file",
    default="",
    help="Hand-off folder, photo-color, photo-gray, or MLflow model such as models:/NAME@champion; by default the one "
    "for photographs, in colour or gray, that fits each image.",
)
@click.option("--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for results.")
@click.option(
    "--strength",
    default=1.0,
    show_default=True,
    type=Number(*STRENGTH),
    help="Share of the noise found that is removed: 0 copies the files; above 1, a second pass removes more, in twice "
    "the time.",
)
@click.option(
    "--quality",
    default="fast",
    show_default=True,
    type=click.Choice(["fast", "best"]),
    help="Work put in; best is the mean over the image turned and flipped in all 8 ways, in 8 times the time.",
)
@click.option(
    "--variance",
    default=0.0,
    show_default=True,
    type=Number(float, 0, 100),
    help="Variance of Gaussian noise to add first, to try the model.",
)
@click.option(
    "--white",
    type=Number(float, 0, 3e38, low_allowed=False),
    help="Pixel value that is white, if not the model's or the largest of its type.",
)
@click.option("--black", type=Number(float, -3e38, 3e38), help="Pixel value that is black, if not the model's or 0.")
@click.option("--overwrite", is_flag=True, help="Replace also files in --output that are no results of denoise.")
@click.option(
    "--strict",
    is_flag=True,
    help="Skip images that do not look like what the model was trained on, instead of warning of them.",
)
@click.option(
    "--max-pixels",
    default=2**30,
    show_default=True,
    type=Number(int, 1, 2**40),
    help="Most pixels of a file; one that claims more is skipped, since it may be made to exhaust the memory.",
)
@with_options("seed", seed="Seed of the noise that is added.")
def denoise_command(
    inputs: tuple[Path, ...],
    file: str,
    output: Path,
    strength: float,
    quality: str,
    variance: float,
    white: float | None,
    black: float | None,
    overwrite: bool,
    strict: bool,
    max_pixels: int,
    seed: int,
) -> None:
    """Denoise INPUTS, which are files of images and folders of such files. Needs no torch."""
    from pipeline.denoising.command import denoise

    denoise(file, inputs, output, variance, seed, white, black, strength, quality, overwrite, strict, max_pixels)


@click.command("demo", cls=Command, section=_SECTION, examples=["artifacts/mnist-blind"])
@click.argument("folder", type=_FOLDER)
@with_options("host", "port")
def demo_command(folder: Path, host: str, port: int) -> None:
    """Serve the demo page of the hand-off FOLDER, which denoises in the browser."""
    from pipeline.serving.demo import serve

    serve(folder, host, port)


HANDOFF_COMMANDS = (verify_command, denoise_command, demo_command)
