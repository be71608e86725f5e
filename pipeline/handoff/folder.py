"""The hand-off folder: everything that a team needs to use the file, and to see that it is right."""

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

from pipeline import __version__
from pipeline.config import Config
from pipeline.files import sha256_file
from pipeline.handoff import verify
from pipeline.handoff.onnxruntime_web import FETCHED
from pipeline.handoff.parity import MAX_ABS, MAX_ABS_UP_TO, Report
from pipeline.handoff.variants import MAX_LOSS, VARIANTS, VariantFile, to_8_bits
from pipeline.handoff.verify import INPUT, IR_VERSION, MANIFEST, MODEL, OPSET, OUTPUT, SUMS
from pipeline.noise import GaussianNoise
from pipeline.reports.figures import to_pixels
from pipeline.scoring.score import PROTOCOL
from pipeline.training.checkpoint import Checkpoint

FILES = Path(__file__).parent / "files"  # what is put into every folder as it is: the clients, the page
_GOLDEN = "test_data_set_0"  # the layout of the ONNX model zoo, which onnx's own test runners read
_GOLDEN_8_BITS = "test_data_set_uint8"
_SAMPLE_IMAGES, _SAMPLE_PIXELS = 10, 500_000  # in samples/: so many, or so many pixels in all


@dataclass(frozen=True)
class Handoff:
    """What is told about a model, in the card, the manifest and the file itself."""

    config: Config
    run_id: str
    fingerprint: str  # of what the folder follows from
    checkpoint: Checkpoint
    parameters: int
    dataset: Mapping[str, Any]  # the manifest of the prepared data
    test_images: int
    halo: int  # pixels around a tile that a large image needs, see `pipeline.denoising.tiling`
    accepted: tuple[float, float]  # values of the input beyond these are no noisy image
    scores: Mapping[str, Mapping[str, Mapping[str, float]]]  # {label of the noise: {denoiser: {metric: mean}}}
    commit: str | None  # git commit of the source

    @property
    def description(self) -> str:
        noise = self.config.training_noise.description
        return f"Image denoiser: {self.config.model_name} trained on {self.config.dataset_name} with {noise}."

    def metadata(self) -> dict[str, str]:
        """For the file's `metadata_props`: the keys that the ONNX specification names for images, then our own.

        The same run gives the same values, so that exporting it again gives the same bytes.
        """
        own = self.scores[self.config.training_noise.label]
        return {
            "Image.BitmapPixelFormat": "Gray8" if self.config.channels == 1 else "Rgb8",
            "Image.ColorSpaceGamma": "SRGB",
            "Image.NominalPixelRange": "Normalized_0_1",
            "description": self.description,
            "task": "image-denoising",
            "input_layout": f"NCHW, {_channels(self.config)}, any height and width",
            "input_range": f"clean pixels in [0, 1], noise added, {_clipping(self.config)}",
            "accepted_range": f"{self.accepted[0]:g} {self.accepted[1]:g}",
            "output_range": "[0, 1]",
            "halo": str(self.halo),
            "clip_input": json.dumps(self.config.clip_input),
            "model": self.config.model_name,
            "parameters": str(self.parameters),
            "dataset": self.config.dataset_name,
            "dataset_sha256": self.dataset["digest"],
            "noise": self.config.training_noise.spec,
            "test_psnr_db": f"{own['denoised']['psnr']:.4f}",
            "noisy_psnr_db": f"{own['noisy']['psnr']:.4f}",
            "weights_sha256": self.checkpoint.digest,
            "mlflow_run_id": self.run_id,
            "git_commit": self.commit or "unknown",
            "torch_version": torch.__version__,
        }


def write_handoff(
    folder: Path,
    handoff: Handoff,
    report: Report,
    variants: Sequence[VariantFile],
    images: tuple[np.ndarray, np.ndarray, np.ndarray],
    golden: Mapping[str, np.ndarray],
) -> None:
    """Write everything beside `folder/model.onnx` and the variants, which are there already, and the sums last.

    Args:
        folder: the hand-off folder.
        handoff: what is told about the model.
        report: of the gates, which were all passed.
        variants: those that were written.
        images: clean, noisy and denoised test images to look at, float32 [N, C, H, W], N at least 1.
        golden: inputs and outputs to check a runtime with: `noisy` and `denoised`, float32 [N, C, H, W], and
            `denoised_uint8`, uint8, what the 8-bit form of `noisy` gives; all made by torch.
    """
    (folder / "parity_report.json").write_text(json.dumps(report.to_dict(), indent=1) + "\n")
    (folder / "parity_report.md").write_text(report.to_markdown())

    _write_golden(folder / _GOLDEN, golden["noisy"], golden["denoised"])
    if any(VARIANTS[variant.name].dtype == "uint8" for variant in variants):
        _write_golden(folder / _GOLDEN_8_BITS, to_8_bits(golden["noisy"]), golden["denoised_uint8"])

    samples = folder / "samples"
    samples.mkdir()
    for index in range(min(len(images[0]), max(1, min(_SAMPLE_IMAGES, _SAMPLE_PIXELS // images[0][0].size)))):
        for name, of_name in zip(("clean", "noisy", "denoised"), images, strict=True):
            Image.fromarray(to_pixels(torch.from_numpy(of_name[index]))).save(samples / f"{index}_{name}.png")

    shutil.copytree(FILES, folder, dirs_exist_ok=True)
    shutil.copy(verify.__file__, folder / "verify.py")
    (folder / "MODEL_CARD.md").write_text(_card(handoff, report, _models(folder, handoff, report, variants)))
    manifest = _manifest(folder, handoff, report, variants)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    (folder / SUMS).write_text("".join(f"{sha256_file(folder / name)}  {name}\n" for name in names))


def _write_golden(folder: Path, noisy: np.ndarray, denoised: np.ndarray) -> None:
    folder.mkdir()
    for name, values, file in ((INPUT, noisy, "input_0.pb"), (OUTPUT, denoised, "output_0.pb")):
        tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(values), name)
        (folder / file).write_bytes(tensor.SerializeToString())


def _models(folder: Path, handoff: Handoff, report: Report, variants: Sequence[VariantFile]) -> list[dict[str, Any]]:
    """What the manifest says of each ONNX file, the float file first; `verify` goes by it."""
    config = handoff.config
    label = config.training_noise.label
    low, high = handoff.accepted
    floats = f"clean pixels in [0, 1] plus noise, {_clipping(config)}; beyond {low:g} to {high:g} it is no noisy image"
    entries: list[dict[str, Any]] = [
        {
            "variant": "float32",
            "summary": "the model",
            "dtype": "float32",
            "file": MODEL,
            "test_data": _GOLDEN,
            "tolerance": {"max_abs": MAX_ABS},
            "test_psnr_db": {label: report.psnr},
        }
    ]
    for made in variants:
        variant = VARIANTS[made.name]
        entries.append(
            {
                "variant": made.name,
                "summary": variant.summary,
                "dtype": variant.dtype,
                "file": made.path.name,
                "test_data": _GOLDEN_8_BITS if variant.dtype == "uint8" else _GOLDEN,
                "tolerance": variant.tolerance,
                "runtimes": variant.runtimes,
                "test_psnr_db": made.psnr,
                "psnr_lost_db": made.loss,
                "images_per_second": f"{made.speed:.2f} times those of {MODEL}, on one thread",
            }
        )
    for entry in entries:
        dtype, path = entry.pop("dtype"), folder / entry["file"]
        tensor = {"dtype": dtype, "shape": ["batch", config.channels, "height", "width"]}
        is_float = dtype == "float32"
        entry |= {
            "bytes": path.stat().st_size,
            "sha256": sha256_file(path),
            "opset": OPSET,
            "ir_version": IR_VERSION,
            "input": {"name": INPUT, **tensor, "range": floats if is_float else "0 to 255"},
            "output": {"name": OUTPUT, **tensor, "range": [0.0, 1.0] if is_float else [0, 255]},
        }
    return entries


def _manifest(folder: Path, handoff: Handoff, report: Report, variants: Sequence[VariantFile]) -> dict[str, Any]:
    config = handoff.config
    return {
        "name": config.run_name,
        "description": handoff.description,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "pipeline_version": __version__,
        "git_commit": handoff.commit,
        "mlflow_run_id": handoff.run_id,
        "fingerprint": handoff.fingerprint,
        "models": _models(folder, handoff, report, variants),
        "channels": config.channels,
        "accepted_range": list(handoff.accepted),
        "halo": handoff.halo,
        "model": {
            "name": config.model_name,
            "parameters": handoff.parameters,
            "epoch": handoff.checkpoint.epoch,
            "weights_sha256": handoff.checkpoint.digest,
        },
        "trained_on": {
            "dataset": config.dataset_name,
            "dataset_sha256": handoff.dataset["digest"],
            "licence": handoff.dataset["licence"],
            "noise": config.training_noise.spec,
            "input_clipped": config.clip_input,
            "target": config.target,
        },
        "test": {
            "images": handoff.test_images,
            "protocol": PROTOCOL,
            "scores": handoff.scores,
        },
        "parity": {"max_abs_difference": report.max_abs, "limit": MAX_ABS, "gates": len(report.gates)},
        "samples": len(list((folder / "samples").glob("*_clean.png"))),
        "fetched": FETCHED,
    }


def _card(handoff: Handoff, report: Report, models: Sequence[Mapping[str, Any]]) -> str:
    config, dataset = handoff.config, handoff.dataset
    own = config.training_noise
    rows = []
    for label, scores in handoff.scores.items():
        note = " (trained with this)" if label == own.label else ""
        cells = [f"{scores[name]['psnr']:.2f} dB" for name in ("noisy", "clipped", "denoised")]
        rows.append(f"| {label}{note} | {' | '.join(cells)} | {scores['denoised']['ssim']:.4f} |")
    limits = [
        f"It knows {own.description} on images like those of {config.dataset_name}; "
        "on other images and other noise it was not measured, but for the table above.",
        "Runtimes that compute in bfloat16 or float16 by themselves (OpenVINO on some processors) do not meet the "
        "tolerance below; ask them for float32.",
    ]
    if not _meets_clipped(config):
        limits.insert(
            1,
            "A noisy image that was stored with 8 bits is clipped and rounded; how well the model does on those is in "
            "the row of the uint8 file, if there is one. The `samples/*_noisy.png` are such images.",
        )
    worse = [label for label, of in handoff.scores.items() if of["denoised"]["psnr"] < of["clipped"]["psnr"]]
    if worse:
        limits.insert(
            0, f"With noise {' and '.join(worse)} its output is worse than its clipped input: do not use it there."
        )
    if config.target == "noisy":
        limits.insert(0, "Trained with the noisy image as the target, to show that mistake. Do not use it to denoise.")
    return f"""# Model card: {config.run_name}

{handoff.description}

`{MODEL}` is one ONNX file (opset {OPSET}, IR version {IR_VERSION}) with all weights inside.

- See that it arrived whole, and does in your runtime what it did here: `pip install numpy onnx onnxruntime`, then
  `python verify.py` (`--runtime all`: in every runtime that is installed).
- Use it: `examples/` has the shortest complete client for Python, Node and the browser.
- Try it: `demo/index.html` runs it in a browser; it needs two files of onnxruntime-web in `demo/ort/`, whose names
  and sums are in `{MANIFEST}`.

## What goes in, what comes out

| | name | type | shape | values |
|---|---|---|---|---|
| input | `{INPUT}` | float32 | [batch, {config.channels}, height, width] | clean pixels in [0, 1], plus noise |
| output | `{OUTPUT}` | float32 | the same | [0, 1] |

Any batch, height and width. 0 is black, 1 white. Divide 8-bit images by 255 first: integers from 0 to 255, cast to
float, give an answer that looks like an image and is wrong. No noisy image has values below {handoff.accepted[0]:g}
or above {handoff.accepted[1]:g}: refuse such input.
{_clip_advice(config)}
NaN and infinity in an image spread over it; there is no guard inside.

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{MODEL}")
noisy = np.random.rand(1, {config.channels}, 28, 28).astype(np.float32)
denoised = session.run(["{OUTPUT}"], {{"{INPUT}": noisy}})[0]
```

## How good it is

Mean over {handoff.test_images:,} test images that were used for nothing else; input {_clipping(config)}, output clipped
to [0, 1], data range 1. A number alone is the variance of Gaussian noise; with `-clipped`, the input was clipped too.

| noise | PSNR of the input | of the clipped input | of the output | SSIM of the output |
|---|---|---|---|---|
{chr(10).join(rows)}

## The files

| file | | takes and gives | bytes | PSNR, {own.label} | lost | images/s |
|---|---|---|---:|---:|---:|---|
{chr(10).join(_file_row(model, own.label) for model in models)}

PSNR on the test set, in dB; what is lost is against `{MODEL}` on the same images, which for the uint8 file are noisy
images stored with 8 bits; in brackets at single levels of the noise. Allowed: {MAX_LOSS:g} dB. The images/s are of one
thread of the machine that wrote the files.

## Limits

{chr(10).join(f"- {limit}" for limit in limits)}

## Where it comes from

- Model: {config.model_name}, {handoff.parameters:,} parameters, epoch {handoff.checkpoint.epoch} (lowest validation
  loss).
- Data: {dataset["origin"]}; licence of the data: {dataset["licence"]}; SHA-256 of the prepared images
  `{dataset["digest"]}`.
- MLflow run `{handoff.run_id}`, git commit `{handoff.commit or "unknown"}`, weights SHA-256
  `{handoff.checkpoint.digest}`.
- The code that made it is under the MIT licence. The weights carry no licence of their own; mind that of the data.

## How it was checked

`parity_report.md` lists {len(report.gates)} gates, all passed: the file was read back from disk and run in onnxruntime
at every optimization level and in ONNX's reference evaluator. Largest difference from torch in any output pixel:
{report.max_abs:.2g} (allowed: {MAX_ABS:g}), for inputs from -{MAX_ABS_UP_TO:g} to {MAX_ABS_UP_TO:g}.
PSNR of the file on the test set: {report.psnr:.3f} dB.

To check a runtime of yours, run `test_data_set_0/input_0.pb` through it and compare with `output_0.pb` (ONNX
TensorProto files; {MAX_ABS:g} is a fair tolerance for float32). `sha256sum -c {SUMS}` checks the files.
"""


def _file_row(model: Mapping[str, Any], label: str) -> str:
    losses = model.get("psnr_lost_db", {})
    lost = f"{losses[label]:.3f}" if losses else ""
    others = ", ".join(f"{of}: {loss:.3f}" for of, loss in losses.items() if of != label)
    lost += f" ({others})" if others else ""
    return (
        f"| `{model['file']}` | {model['summary']} | {model['input']['dtype']} | {model['bytes']:,} "
        f"| {model['test_psnr_db'][label]:.3f} | {lost} | {model.get('images_per_second', '')} |"
    )


def _clip_advice(config: Config) -> str:
    if config.clip_input:
        return "Clip the input to [0, 1]: the model was trained on that."
    if _meets_clipped(config):
        return "Clipped to [0, 1] or not: the model was trained on both."
    return "Do not clip the input: the model was trained on noise that leaves [0, 1]."


def _meets_clipped(config: Config) -> bool:
    """Was the model trained on clipped images too, such as stored ones are?"""
    noise = config.training_noise
    return config.clip_input or (isinstance(noise, GaussianNoise) and noise.clip.high > 0)


def _clipping(config: Config) -> str:
    return "clipped to [0, 1]" if config.clip_input else "not clipped"


def _channels(config: Config) -> str:
    return "1 channel" if config.channels == 1 else f"{config.channels} channels (RGB)"
