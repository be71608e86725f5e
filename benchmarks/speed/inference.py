"""Images/s of the trained autoencoder in torch and in onnxruntime, and next to the classical denoisers."""

from __future__ import annotations

import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.speed.timing import in_turn, ratio
from pipeline.data.batches import WholeImages, validation_batch
from pipeline.data.images import Part
from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.handoff.onnx_file import export_onnx
from pipeline.models import MODELS, build_model
from pipeline.noise import make_noise
from pipeline.scoring.classical import BASELINES, baseline_denoiser, missing, tune
from pipeline.scoring.metrics import psnr
from pipeline.scoring.score import Denoiser, noisy_batches
from pipeline.training.loop import Trainer
from pipeline.verification.runtimes import open_onnxruntime

BATCHES, ROUNDS = (1, 64, 512), 15
IMAGES = 100  # to score; BM3D takes a third of a second for one
NOISE = make_noise("gaussian", "0.01")
RELEASED = Path(__file__).parents[2] / "artifacts" / "mnist-blind" / "model.onnx"


def _trained() -> nn.Module:
    train = Part(BundledMNIST().images()[0])
    torch.manual_seed(0)
    model = build_model("autoencoder")
    validation = validation_batch(train, 0, 1, torch.device("cpu"))
    Trainer(model, WholeImages(train), validation, NOISE, MODELS["autoencoder"].fast, epochs=1).run()
    return model.to(memory_format=torch.contiguous_format).eval()


def _noisy(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    images = BundledMNIST().images()[1]
    assert images is not None
    clean, noisy = zip(*noisy_batches(Part(images[:count]), NOISE), strict=True)
    return torch.cat(clean), torch.cat(noisy)


def _runtimes(model: nn.Module, file: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    session = open_onnxruntime(file, threads=threads)
    channels_last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    for batch in BATCHES:
        noisy = _noisy(batch)[1]
        last = noisy.to(memory_format=torch.channels_last)
        compiled = torch.compile(copy.deepcopy(channels_last))
        sides: dict[str, Callable[[], object]] = {
            "eager": torch.inference_mode()(partial(model, noisy)),
            "channels last": torch.inference_mode()(partial(channels_last, last)),
            "compiled": torch.inference_mode()(partial(compiled, last)),
            "onnxruntime": partial(session, noisy.numpy()),
        }
        repeats = max(1, 256 // batch)
        times = in_turn({name: partial(_repeat, side, repeats) for name, side in sides.items()}, ROUNDS)
        speeds = " | ".join(f"{batch * repeats / statistics.median(seconds):,.0f}" for seconds in times.values())
        print(f"| {threads} | {batch} | {speeds} | {ratio(times['eager'], times['onnxruntime'])} |")


def _repeat(side: Callable[[], object], count: int) -> None:
    for _ in range(count):
        side()


def _row(name: str, denoise: Denoiser, images: int, reference: float | None) -> float:
    clean, noisy = _noisy(images)
    denoise(noisy[:1])
    began = time.perf_counter()
    denoised = torch.cat([denoise(batch) for batch in noisy.split(64)])
    speed = images / (time.perf_counter() - began)
    decibels = psnr(denoised[:IMAGES], clean[:IMAGES]).mean().item()
    print(f"| {name} | {speed:,.1f} | {f'{speed / reference:,.0f}' if reference else ''} | {decibels:.2f} |")
    return speed


def _runtime_denoiser(path: Path) -> Denoiser:
    session = open_onnxruntime(path, threads=1)
    return lambda noisy: torch.from_numpy(session(noisy.numpy())).clamp(0, 1)


def table() -> None:
    model = _trained()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export_onnx(model, 1, file, {"description": "a benchmark", "input_range": "any", "output_range": "[0, 1]"})
        print(f"Images/s of the autoencoder, 28x28 pixels, median of {ROUNDS} rounds in turn:\n")
        print("| threads | batch | torch, eager | channels last | compiled | onnxruntime | of eager |")
        print("|---:|---:|---:|---:|---:|---:|---:|")
        for threads in sorted({1, os.cpu_count() or 1}):
            _runtimes(model, file, threads)

        torch.set_num_threads(1)
        print(f"\nAt variance 0.01, one thread; PSNR on the first {IMAGES} test digits:\n")
        print("| | images/s | times BM3D | PSNR in dB |\n|---|---:|---:|---:|")
        validation = list(noisy_batches(Part(BundledMNIST().images()[0][:50]), NOISE))
        bm3d = None
        for name in reversed(BASELINES):
            if reason := missing(name):
                print(f"| {name} | not run: {reason} | | |")
                continue
            speed = _row(name, baseline_denoiser(name, 0.1, tune(name, validation, 0.1)), IMAGES, bm3d)
            bm3d = speed if name == "bm3d" else bm3d
        _row("autoencoder, onnxruntime", _runtime_denoiser(file), 10_000, bm3d)
        _row("`mnist-blind` (resunet m), onnxruntime", _runtime_denoiser(RELEASED), 10_000, bm3d)
