"""The hand-off folder: everything that a team needs to use the file, and to see that it is right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from PIL import Image

from pipeline import __version__
from pipeline.checkpoint import Checkpoint
from pipeline.config import Config
from pipeline.evaluation import PROTOCOL
from pipeline.figures import to_pixels
from pipeline.files import sha256_file
from pipeline.onnx.export import INPUT, IR_VERSION, OPSET, OUTPUT
from pipeline.onnx.parity import MAX_ABS, MAX_ABS_UP_TO, Report

MODEL = "model.onnx"
SUMS = "SHA256SUMS"
_GOLDEN_IMAGES = 7  # in test_data_set_0
_SAMPLE_IMAGES = 4  # in samples/
_CLIP_ADVICE = {
    False: "Do not clip the input: the model was trained on noise that leaves [0, 1].",
    True: "Clip the input to [0, 1]: the model was trained on that.",
}


@dataclass(frozen=True)
class Handoff:
    """What is told about a model, in the card, the manifest and the file itself."""

    config: Config
    run_id: str
    checkpoint: Checkpoint
    parameters: int
    dataset: Mapping[str, Any]  # the manifest of the prepared data
    test_images: int
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
            "output_range": "[0, 1]",
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
    folder: Path, handoff: Handoff, report: Report, clean: torch.Tensor, noisy: torch.Tensor, denoised: torch.Tensor
) -> None:
    """Write everything beside `folder/model.onnx`, which is there already, and the sums last.

    Args:
        folder: the hand-off folder.
        handoff: what is told about the model.
        report: of the gate, which was passed.
        clean, noisy, denoised: test images, float32 [N, C, H, W], N at least 1; `denoised` is the model's own
            output in torch, not clipped.
    """
    (folder / "parity_report.json").write_text(json.dumps(report.to_dict(), indent=2) + "\n")
    (folder / "parity_report.md").write_text(report.to_markdown())

    golden = folder / "test_data_set_0"  # the layout of the ONNX model zoo, which onnx's own test runners read
    golden.mkdir()
    for name, images, file in ((INPUT, noisy, "input_0.pb"), (OUTPUT, denoised, "output_0.pb")):
        values = np.ascontiguousarray(images[:_GOLDEN_IMAGES].numpy())
        (golden / file).write_bytes(onnx.numpy_helper.from_array(values, name).SerializeToString())

    samples = folder / "samples"
    samples.mkdir()
    for index in range(min(_SAMPLE_IMAGES, len(clean))):
        for name, images in (("clean", clean), ("noisy", noisy), ("denoised", denoised)):
            Image.fromarray(to_pixels(images[index])).save(samples / f"{index}_{name}.png")

    (folder / "MODEL_CARD.md").write_text(_card(handoff, report))
    (folder / "manifest.json").write_text(json.dumps(_manifest(folder, handoff, report), indent=2) + "\n")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    (folder / SUMS).write_text("".join(f"{sha256_file(folder / name)}  {name}\n" for name in names))


def _manifest(folder: Path, handoff: Handoff, report: Report) -> dict[str, Any]:
    config = handoff.config
    shape = ["batch", config.channels, "height", "width"]
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "pipeline_version": __version__,
        "git_commit": handoff.commit,
        "mlflow_run_id": handoff.run_id,
        "file": {
            "name": MODEL,
            "sha256": sha256_file(folder / MODEL),
            "bytes": (folder / MODEL).stat().st_size,
            "opset": OPSET,
            "ir_version": IR_VERSION,
        },
        "input": {
            "name": INPUT,
            "dtype": "float32",
            "shape": shape,
            "range": f"clean pixels in [0, 1] plus noise, {_clipping(config)}",
        },
        "output": {"name": OUTPUT, "dtype": "float32", "shape": shape, "range": [0.0, 1.0]},
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
        "test_data": [{"input": "test_data_set_0/input_0.pb", "output": "test_data_set_0/output_0.pb"}],
    }


def _card(handoff: Handoff, report: Report) -> str:
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
    if not config.clip_input:
        limits.insert(
            1,
            "A noisy image that was saved with 8 bits is clipped and rounded: that is not what the model was trained "
            "on, and was not measured. The `samples/*_noisy.png` are such copies, to look at.",
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

## What goes in, what comes out

| | name | type | shape | values |
|---|---|---|---|---|
| input | `{INPUT}` | float32 | [batch, {config.channels}, height, width] | clean pixels in [0, 1], plus noise |
| output | `{OUTPUT}` | float32 | the same | [0, 1] |

Any batch, height and width. 0 is black, 1 white. Divide 8-bit images by 255 first: integers from 0 to 255, cast to
float, give an answer that looks like an image and is wrong.
{_CLIP_ADVICE[config.clip_input]}
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
to [0, 1], data range 1. A number alone is the variance of Gaussian noise.

| noise | PSNR of the input | of the clipped input | of the output | SSIM of the output |
|---|---|---|---|---|
{chr(10).join(rows)}

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


def _clipping(config: Config) -> str:
    return "clipped to [0, 1]" if config.clip_input else "not clipped"


def _channels(config: Config) -> str:
    return "1 channel" if config.channels == 1 else f"{config.channels} channels (RGB)"
