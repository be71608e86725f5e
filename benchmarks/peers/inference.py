"""Our files against networks of the literature and BM3D: `python -m benchmarks.peers.inference CORES`.

DnCNN and FFDNet have random weights: speed needs no training.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from benchmarks.speed.timing import in_turn
from pipeline.models import build_model, count_parameters
from pipeline.scoring.classical import baseline_denoiser, missing
from pipeline.verification.facts import INPUT, OUTPUT
from pipeline.verification.runtimes import RUNTIMES, is_installed

RELEASED = Path(__file__).parents[2] / "artifacts" / "photo-gray" / "model.onnx"
SHAPES = ((1, 28), (64, 28), (1, 512), (1, 2048))  # batch, height and width
ROUNDS = {28: 9, 512: 3, 2048: 1}
LARGEST_BM3D = 512  # a megapixel takes it more than a minute


class FFDNet(nn.Module):
    """Zhang, Zuo and Zhang 2018, gray: 15 convolutions of 64 channels at half the resolution, told the noise level."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(5, 64, 3, padding=1), nn.ReLU()]
        for _ in range(13):
            layers += [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(64, 4, 3, padding=1))

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        small = functional.pixel_unshuffle(noisy, 2)
        level = torch.full_like(small[:, :1], 0.1)
        return functional.pixel_shuffle(self.layers(torch.cat([small, level], dim=1)), 2)


def networks() -> Iterator[tuple[str, nn.Module, Path | None]]:
    """Their names, modules in eval mode, and the released file if there is one."""
    torch.manual_seed(0)
    yield "ours: autoencoder", build_model("autoencoder").eval(), None
    yield "ours: resunet m", build_model("resunet").eval(), None
    yield "ours: resunet deep (`photo-gray`)", build_model("resunet", size="deep").eval(), RELEASED
    yield "FFDNet", FFDNet().eval(), None
    yield "DnCNN, 17 layers", build_model("dncnn", size="l").eval(), None


def runtimes(
    model: nn.Module, released: Path | None, noisy: torch.Tensor, folder: Path
) -> dict[str, Callable[[], object]]:
    """Runtime -> one pass over `noisy`."""
    last = model.to(memory_format=torch.channels_last)
    images = noisy.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        compiled = torch.compile(last)
        compiled(images)
    found: dict[str, Callable[[], object]] = {
        "torch": torch.inference_mode()(partial(last, images)),
        "compiled": torch.inference_mode()(partial(compiled, images)),
    }
    file = released or folder / "model.onnx"
    if not released:
        torch.onnx.export(model, (noisy,), file, dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT])
    for name in ("onnxruntime", "openvino"):
        if is_installed(name):
            found[name] = partial(RUNTIMES[name].open(file), noisy.numpy())
    return found


def speeds(batch: int, side: int) -> None:
    """Print a row for each network: megapixels/s in each runtime."""
    noisy = torch.rand(batch, 1, side, side)
    repeats = max(1, 64 * 28**2 // noisy.numel())
    for name, model, released in networks():
        with tempfile.TemporaryDirectory() as folder:
            passes = runtimes(model, released, noisy, Path(folder))
            times = in_turn({name: partial(_repeat, run, repeats) for name, run in passes.items()}, ROUNDS[side])
        cells = [name, f"{count_parameters(model):,}"]
        for runtime in ("torch", "compiled", "onnxruntime", "openvino"):
            seconds = times.get(runtime)
            cells.append(f"{noisy.numel() * repeats / statistics.median(seconds) / 1e6:.3f}" if seconds else "not run")
        print(f"| {batch} x {side}x{side} | {' | '.join(cells)} |", flush=True)
    if batch > 1 or side > LARGEST_BM3D:
        return
    speed = f"not run: {missing('bm3d')}"
    if not missing("bm3d"):
        denoise = baseline_denoiser("bm3d", 0.1, 1.0)
        began = time.perf_counter()
        denoise(noisy)
        speed = f"{noisy.numel() / (time.perf_counter() - began) / 1e6:.4f}"
    print(f"| {batch} x {side}x{side} | BM3D, its own library | | {speed} | | | |", flush=True)


def _repeat(run: Callable[[], object], count: int) -> None:
    for _ in range(count):
        run()


def table() -> None:
    """Print a table for one core and one for all, each measured by a process that has no others."""
    cores = sorted(os.sched_getaffinity(0))
    for count in sorted({1, len(cores)}):
        print(f"\nMegapixels/s on {count} of {len(cores)} cores, medians of rounds in turn:\n")
        print("| images | network | parameters | torch | compiled | onnxruntime | OpenVINO |")
        print("|---|---|---:|---:|---:|---:|---:|", flush=True)
        subprocess.run([sys.executable, "-m", __spec__.name, str(count)], check=True)


if __name__ == "__main__":
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
    torch.set_num_threads(int(sys.argv[1]))
    for shape in SHAPES:
        speeds(*shape)
