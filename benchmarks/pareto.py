"""Quality by the time an image takes, from small networks to large: `python -m benchmarks.pareto [--figure FILE]`.

Each network is trained for the same CPU time on one thread, on the digits of MNIST at variance 0.01, by its own recipe,
and exported in 32-bit floats and in 8-bit integers. The files denoise the test digits in onnxruntime, and are timed in
turn, on one thread. Prints a table in Markdown, and draws it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure

from benchmarks.networks import CPU, train_for
from benchmarks.speed.timing import in_turn
from pipeline.data.batches import WholeImages, validation_batch
from pipeline.data.images import Part
from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.handoff.onnx_file import export_onnx
from pipeline.handoff.variants import Original, make_variants
from pipeline.models import MODELS, build_model, count_parameters, parse_model
from pipeline.noise import make_noise
from pipeline.reports.figures import PALETTE
from pipeline.reports.tables import markdown_table
from pipeline.scoring.metrics import psnr
from pipeline.scoring.score import noisy_batches
from pipeline.verification.runtimes import Session, open_onnxruntime

NETWORKS = (
    ("autoencoder", ""),
    ("unet:width=8", ""),
    ("unet", ""),
    ("resunet:width=2", ""),
    ("resunet:width=4", ""),
    ("resunet", "s"),
    ("resunet", "m"),
    ("resunet", "l"),
    ("dncnn:width=16,depth=5", ""),
    ("dncnn", "s"),
)
TRAINED, BATCH, ROUNDS = 48_000, 64, 9
NOISE = make_noise("gaussian", "0.01")
METADATA = {"description": "a benchmark", "input_range": "any", "output_range": "[0, 1]"}


@dataclass(frozen=True)
class File:
    """A file of a trained network."""

    network: str
    form: str  # "float" or "int8"
    parameters: int
    images: int  # seen in training
    path: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300, help="CPU seconds of training for each network")
    parser.add_argument("--figure", type=Path, help="PNG file to draw")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = [file for network in NETWORKS for file in trained(*network, arguments.seconds, Path(folder))]
        sessions = {file: open_onnxruntime(file.path, threads=1) for file in files}
        scores = {file: scored(session) for file, session in sessions.items()}
        noisy = torch.rand(BATCH, 1, 28, 28).numpy()
        times = in_turn({str(file.path): partial(session, noisy) for file, session in sessions.items()}, ROUNDS)
    milliseconds = {file: 1000 * statistics.median(times[str(file.path)]) / BATCH for file in files}
    rows = []
    for file in sorted(files, key=milliseconds.__getitem__):
        facts = f"{file.parameters:,}", f"{file.images:,}", f"{milliseconds[file]:.3f}", f"{scores[file]:.2f}"
        rows.append([file.network, file.form, *facts])
    print(f"After {arguments.seconds:g} CPU seconds of training each, in batches of {BATCH}, one thread:\n")
    print(markdown_table([["network", "file", "parameters", "images seen", "ms an image", "PSNR in dB"], *rows]))
    if arguments.figure:
        draw(files, milliseconds, scores).savefig(arguments.figure, dpi=150)


def trained(spec: str, size: str, seconds: float, folder: Path) -> list[File]:
    """Train a network, and write its files."""
    images, test = BundledMNIST().images()
    train = Part(images[:TRAINED])
    torch.manual_seed(0)
    model = build_model(spec, size)
    recipe = MODELS[parse_model(spec, size)[0]].best
    validation = validation_batch(Part(images[TRAINED:]), 0, 1, CPU)
    model, seen = train_for(seconds, model, WholeImages(train), validation, NOISE, recipe)
    model = model.to(memory_format=torch.contiguous_format).eval()
    name = f"{spec} {size}".strip()
    path = folder / f"{len(list(folder.iterdir()))}.onnx"
    export_onnx(model, 1, path, METADATA)
    whole = File(name, "float", count_parameters(model), seen, path)
    original = Original(path, model, 1, METADATA, train, Part(test[:BATCH]), NOISE, {})
    small = [File(name, "int8", whole.parameters, seen, made.path) for made in make_variants(["int8"], original)]
    print(name, f"{seen:,} images seen", file=sys.stderr, flush=True)
    return [whole, *small]


def scored(session: Session) -> float:
    """The mean PSNR in dB over the test digits."""
    images = BundledMNIST().images()[1]
    return float(
        torch.cat(
            [
                psnr(torch.from_numpy(session(noisy.numpy())), clean)
                for clean, noisy in noisy_batches(Part(images), NOISE)
            ]
        ).mean()
    )


def draw(files: Sequence[File], milliseconds: dict[File, float], scores: dict[File, float]) -> Figure:
    """Quality by time: a line through what nothing faster is as good as."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    front: list[File] = []
    for file in sorted(files, key=milliseconds.__getitem__):
        if not front or scores[file] > scores[front[-1]]:
            front.append(file)
    axes.plot([milliseconds[file] for file in front], [scores[file] for file in front], color="#888888", zorder=0)
    families = list(dict.fromkeys(file.network.partition(":")[0].partition(" ")[0] for file in files))
    for file in files:
        family = families.index(file.network.partition(":")[0].partition(" ")[0])
        colour = PALETTE[family]
        face = colour if file.form == "float" else "white"
        axes.plot(milliseconds[file], scores[file], "os^D"[family], color=colour, markerfacecolor=face)
        if file.form == "float":
            place = (milliseconds[file], scores[file])
            axes.annotate(file.network, place, (0, 6), textcoords="offset points", fontsize=8, ha="center")
    axes.set(xlabel="milliseconds for a digit of 28x28 pixels, one thread", ylabel="PSNR in dB, test digits")
    axes.set_xscale("log", subs=[2, 5])
    for formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatter("{x:g}")
    axes.margins(0.13, 0.1)
    axes.set_title("filled: 32-bit floats, hollow: 8-bit integers; grey: nothing faster is as good", fontsize=9)
    return figure


if __name__ == "__main__":
    main()
