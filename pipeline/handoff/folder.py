"""The hand-off folder: everything that a team needs to use the ONNX file, and to check that it is right."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from PIL import Image
from torch import nn

from pipeline import __version__, verification
from pipeline.data.images import Part, to_integers
from pipeline.files import sha256_file
from pipeline.handoff.card import model_card
from pipeline.handoff.description import Description
from pipeline.handoff.onnxruntime_web import FETCHED, PACKAGE
from pipeline.handoff.parity import MAX_ABS, real_probes
from pipeline.handoff.proof import Proof
from pipeline.handoff.variants import VARIANTS, EightBits, VariantFile
from pipeline.noise import Noise
from pipeline.reports.figures import to_pixels
from pipeline.scoring.score import PROTOCOL, noisy_inputs
from pipeline.verification.folder import MANIFEST, MODEL, SUMS
from pipeline.verification.forms import FORMS
from pipeline.verification.graph import INPUT, IR_VERSION, OPSET, OUTPUT
from pipeline.verification.runtimes import RUNTIMES

FILES = (
    Path(__file__).parent / "files"
)  # copied into every folder unchanged: the licence, the example clients and the demo page
_GOLDEN = "test_data_set_0"  # the layout of the ONNX model zoo, which onnx's own test runners read
_GOLDEN_8_BITS = "test_data_set_uint8"
# More of them: number of images, height and width. Odd sides, one beyond 128, a batch beyond 8.
_GOLDEN_SIZES = {"test_data_set_1": (2, 31, 45), "test_data_set_2": (1, 131, 150), "test_data_set_3": (9, 12, 20)}
_GOLDEN_IMAGES = 7
_SAMPLE_IMAGES, _SAMPLE_PIXELS = 10, 500_000  # limits of samples/: images, and pixels in all


@dataclass(frozen=True)
class Examples:
    """Test images with what torch makes of them; all float32 [N, C, H, W] unless stated otherwise."""

    clean: np.ndarray | None  # to look at: all of one size; None where none is known
    noisy: np.ndarray  # at least one image
    denoised: np.ndarray
    golden_input: np.ndarray  # to check a runtime with
    golden_output: np.ndarray
    golden_output_8_bits: np.ndarray  # uint8; of the golden input in 8 bits
    golden_sizes: Mapping[str, tuple[np.ndarray, np.ndarray]]  # input and output of other sizes, by name of the folder


@torch.no_grad()
def make_examples(model: nn.Module, test: Part, noise: Noise) -> Examples:
    """Denoise some test images with `model`, which is on the CPU and in eval mode."""
    clean, noisy = next(noisy_inputs(test[:_SAMPLE_IMAGES], noise))
    golden = real_probes(test, noise)[:_GOLDEN_IMAGES]
    return Examples(
        None if clean is None else clean.numpy(),
        noisy.numpy(),
        model(noisy).numpy(),
        golden,
        model(torch.from_numpy(golden)).numpy(),
        EightBits(model)(torch.from_numpy(to_integers(golden))).numpy(),
        {name: _of_size(model, golden, *size) for name, size in _GOLDEN_SIZES.items()},
    )


def _of_size(
    model: nn.Module, images: np.ndarray, count: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images that are repeated or cut to a size and a number, and what the model makes of them."""
    number, down, right = (
        -(-want // have) for want, have in zip((count, height, width), np.delete(images.shape, 1), strict=True)
    )
    noisy = np.tile(images, (number, 1, down, right))[:count, :, :height, :width]
    noisy[1::2] = 1 - noisy[1::2]  # negatives: of dark images, bright ones
    return noisy, model(torch.from_numpy(noisy)).numpy()


def pack(folder: Path, description: Description, proof: Proof, examples: Examples) -> None:
    """Write everything beside the ONNX files that `prove` wrote to `folder`; the checksums come last.

    Args:
        folder: the hand-off folder.
        description: of the model.
        proof: of the ONNX files; all gates passed.
        examples: images to look at, and to check a runtime with.
    """
    (folder / "parity_report.json").write_text(json.dumps(proof.report.to_dict(), indent=1) + "\n")
    (folder / "parity_report.md").write_text(proof.report.to_markdown())

    _write_golden(folder / _GOLDEN, examples.golden_input, examples.golden_output)
    for name, pair in examples.golden_sizes.items():
        _write_golden(folder / name, *pair)
    if any(FORMS[variant.name].dtype == "uint8" for variant in proof.variants):
        _write_golden(folder / _GOLDEN_8_BITS, to_integers(examples.golden_input), examples.golden_output_8_bits)

    count = _write_samples(folder / "samples", examples)
    # pip compiles these scripts too when it installs the package.
    shutil.copytree(FILES, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    _copy_checks(folder)
    models = _models(folder, description, proof, examples.golden_input.shape[-2:])
    (folder / "MODEL_CARD.md").write_text(model_card(description, proof.report, models))
    manifest = _manifest(description, proof, models, count, examples.clean is not None)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    (folder / SUMS).write_text("".join(f"{sha256_file(folder / name)}  {name}\n" for name in names))


def _copy_checks(folder: Path) -> None:
    """What `verify.py` in the folder runs."""
    (folder / "verification").mkdir()
    for path in Path(verification.__file__).parent.glob("*.py"):
        shutil.copy(path, folder / "verification")


def _write_samples(folder: Path, examples: Examples) -> int:
    """Write the images to look at as PNG files of 8 bits, and return how many of each kind there are."""
    folder.mkdir()
    count = min(len(examples.noisy), max(1, min(_SAMPLE_IMAGES, _SAMPLE_PIXELS // examples.noisy[0].size)))
    for name in ("clean", "noisy", "denoised"):
        images = getattr(examples, name)
        for index in range(0 if images is None else count):
            Image.fromarray(to_pixels(torch.from_numpy(images[index]))).save(folder / f"{index}_{name}.png")
    return count


def _write_golden(folder: Path, noisy: np.ndarray, denoised: np.ndarray) -> None:
    folder.mkdir()
    for name, values, file in ((INPUT, noisy, "input_0.pb"), (OUTPUT, denoised, "output_0.pb")):
        tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(values), name)
        (folder / file).write_bytes(tensor.SerializeToString())


def _models(folder: Path, description: Description, proof: Proof, size: Sequence[int]) -> list[dict[str, Any]]:
    """What the manifest says of each ONNX file, the float file first. `verify` reads it. `size`: of timed images."""
    config, (height, width) = description.config, size
    entries: list[dict[str, Any]] = [
        {
            "variant": "float32",
            "summary": "the model",
            "file": MODEL,
            "test_data": _GOLDEN,
            "more_test_data": [*_GOLDEN_SIZES],
            "tolerance": FORMS["float32"].tolerance,
            "test_psnr_db": {config.training_noise.label: proof.report.value} if proof.report.metric == "psnr" else {},
            "images_per_second": f"{1000 / proof.milliseconds:,.3g} of {width}x{height} pixels, on one thread",
        },
        *(_variant_entry(made) for made in proof.variants),
    ]
    low, high = description.accepted
    floats = (
        f"clean pixels in [0, 1] plus noise, {description.clipping}; an image with values outside {low:g} to {high:g} "
        "is not a noisy image"
    )
    for entry, dtype in zip(entries, ["float32", *(FORMS[made.name].dtype for made in proof.variants)], strict=True):
        tensor = {"dtype": dtype, "shape": ["batch", description.channels, "height", "width"]}
        is_8_bits, path = dtype == "uint8", folder / entry["file"]
        entry |= {
            "bytes": path.stat().st_size,
            "sha256": sha256_file(path),
            "opset": OPSET,
            "ir_version": IR_VERSION,
            "input": {"name": INPUT, **tensor, "range": "0 to 255" if is_8_bits else floats},
            "output": {"name": OUTPUT, **tensor, "range": [0, 255] if is_8_bits else [0.0, 1.0]},
        }
    return entries


def _variant_entry(made: VariantFile) -> dict[str, Any]:
    variant, form = VARIANTS[made.name], FORMS[made.name]
    return {
        "variant": made.name,
        "summary": variant.summary,
        "file": made.path.name,
        "test_data": _GOLDEN_8_BITS if form.dtype == "uint8" else _GOLDEN,
        "more_test_data": [] if form.dtype == "uint8" else [*_GOLDEN_SIZES],
        "tolerance": form.tolerance,
        "runtimes": [name for name in RUNTIMES if name not in form.lacking],
        "test_psnr_db": made.psnr,
        "psnr_lost_db": made.loss,
        "images_per_second": f"{made.speed:.2f} times as many as {MODEL}, on one thread",
    }


def _manifest(
    description: Description, proof: Proof, models: Sequence[Mapping[str, Any]], samples: int, clean: bool
) -> dict[str, Any]:
    config = description.config
    return {
        "name": description.name,
        "description": description.summary,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "pipeline_version": __version__,
        "git_commit": description.commit,
        "mlflow_run_id": description.run_id,
        "fingerprint": description.fingerprint,
        "models": models,
        "channels": description.channels,
        "accepted_range": list(description.accepted),
        "halo": description.halo,
        **({"removed_correlation": [*map(float, str(familiar).split())]} if (familiar := description.familiar) else {}),
        "white": description.levels.white,
        "black": description.levels.black,
        "pixel_type": description.pixel_type,
        "model": {
            "name": config.model_name,
            "parameters": description.parameters,
            "epoch": description.checkpoint.epoch,
            "weights_sha256": description.checkpoint.digest,
        },
        "trained_on": {
            "dataset": config.dataset_name,
            "dataset_sha256": description.dataset["digest"],
            "licence": description.dataset["licence"],
            "noise": config.training_noise.spec,
            "input_clipped": config.clip_input,
            "target": config.target,
        },
        "test": {
            "images": description.test_images,
            "better_than_doing_nothing": description.quality.is_better,
            "quality": description.quality.text,
            "protocol": PROTOCOL,
            "scores": description.scores,
        },
        "parity": {
            "max_abs_difference": proof.report.max_abs,
            "limit": MAX_ABS,
            "gates": len(proof.report.gates),
        },
        "samples": samples,
        "samples_are_clean": clean,
        "license": description.license,
        "fetched": FETCHED,
        "fetched_from": f"the npm package {PACKAGE}, folder dist",
    }
