"""Other forms of the file: 8-bit pixels, 8-bit weights, 16-bit floats. Adding one is a function and an entry below.

Each is made from the float file or its model, and passes gates of its own before it is handed off. Its speed is
measured and reported even where nothing is gained.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import torch
from torch import nn

from pipeline.data.images import Part, as_images, psnr_of_error, to_floats, to_integers
from pipeline.handoff.onnx_file import export_onnx
from pipeline.handoff.timing import seconds_in_turn
from pipeline.noise import Noise
from pipeline.scoring.metrics import psnr
from pipeline.scoring.score import noisy_batches, noisy_inputs
from pipeline.spec import unknown
from pipeline.verification.forms import FORMS
from pipeline.verification.gates import Gate, at_least, at_most
from pipeline.verification.graph import INPUT, IR_VERSION, check_structure
from pipeline.verification.runtimes import Session, open_onnxruntime

MAX_LOSS = 0.1  # dB of PSNR that a variant may lose
_LEAST_FIDELITY = 50.0  # dB against the float file, of a variant that only rounds, where no clean images are known
_TIE = 255 * 1e-5  # on the scale of 255: where torch is this close to a half, the file may round the other way
_CALIBRATION_IMAGES = 256
_CALIBRATION_SIDE = 64  # pixels
_TORCH_IMAGES = 1000  # run in torch too; the files run on all test images
_TIMED_IMAGES = 64


@dataclass(frozen=True)
class Original:
    """The float file and its model: what variants are made from, and held against."""

    path: Path  # of the float file, which has passed its gates
    model: nn.Module  # on the CPU, in eval mode
    channels: int
    metadata: Mapping[str, str]
    train: Part  # to calibrate with
    test: Part
    noise: Noise  # that the model was trained for
    noises: Mapping[str, Noise]  # by label: `noise`, and the reference levels within its range


@dataclass(frozen=True)
class Variant:
    """How a form of the file, one of `FORMS`, is made."""

    summary: str
    write: Callable[[Original, Path], None]


@dataclass
class VariantFile:
    """A variant that was written, and what was measured."""

    name: str  # a key of `VARIANTS`
    path: Path
    gates: list[Gate]
    psnr: dict[str, float] = field(default_factory=dict)  # in dB, on the test images, by label of the noise
    loss: dict[str, float] = field(default_factory=dict)  # in dB, relative to the float file on the same images
    fidelity: float = math.nan  # in dB, PSNR against the output of the float file, where no clean images are known
    speed: float = 0.0  # images/s, as a multiple of those of the float file


def make_variants(names: Sequence[str], original: Original) -> list[VariantFile]:
    """Write the variants beside the float file, put them through their gates, and measure them.

    Args:
        names: keys of `VARIANTS`.
        original: the float file and its model.
    """
    files = {}
    for name in names:
        path = original.path.with_name(f"{original.path.stem}_{name}.onnx")
        VARIANTS[name].write(original, path)
        files[name] = VariantFile(name, path, list(check_structure(path, original.channels, FORMS[name].dtype)))
    sound = {name: file for name, file in files.items() if all(gate.passed for gate in file.gates)}
    float_session = open_onnxruntime(original.path)
    sessions = {name: open_onnxruntime(file.path) for name, file in sound.items()}
    if original.test.clean is None:
        for name, fidelity in _fidelity(sessions, float_session, original).items():
            least, made = FORMS[name].psnr or _LEAST_FIDELITY, sound[name]
            made.fidelity = fidelity
            made.gates.append(at_least(f"PSNR against {original.path.name}", made.path.name, fidelity, least, " dB"))
    else:
        for label, noise in original.noises.items():
            for name, (psnr_db, lost) in _score(sessions, float_session, original.test, noise).items():
                sound[name].psnr[label], sound[name].loss[label] = psnr_db, lost
                where = f"{sound[name].path.name}: {label}"
                sound[name].gates.append(at_most("PSNR lost", where, lost, MAX_LOSS, " dB"))
    for name, file in sound.items():
        if FORMS[name].dtype == "uint8":
            file.gates.extend(_check_rounding(file.path.name, sessions[name], float_session, original))
        file.speed = _relative_speed(file.path, original, FORMS[name].dtype)
    return list(files.values())


class EightBits(nn.Module):
    """uint8 images, 0 to 255, in and out of a model for images in [0, 1]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (self.model(pixels.to(torch.float32) / 255) * 255).round().clamp(0, 255).to(torch.uint8)


def _write_uint8(original: Original, path: Path) -> None:
    metadata = {**original.metadata, "variant": "uint8", "input_range": "0 to 255", "output_range": "0 to 255"}
    metadata["Image.NominalPixelRange"] = "NominalRange_0_255"
    export_onnx(EightBits(original.model), original.channels, path, metadata, torch.uint8)


def _write_int8(original: Original, path: Path) -> None:
    """Weights and activations of all convolutions but the first and the last in 8 bits.

    Those two handle the image itself. The range of an activation is given by its 99.99 % quantile, not by its largest
    value, which only noise reaches. On the blind residual U-Net at variance 0.001 this loses 0.08 dB; with the largest
    values it would be 0.20 dB, with all convolutions 0.37 dB. Weights have 7 bits, so that no sum overflows on
    processors that add 8-bit products in 16 bits; that costs 0.01 dB.
    """
    from onnxruntime import quantization

    proto = onnx.load(original.path)
    convolutions = [node.name for node in proto.graph.node if node.op_type == "Conv"]
    images = _middles(original.train[:_CALIBRATION_IMAGES])
    one_by_one = (one for _, noisy in noisy_inputs(images, original.noise) for one in noisy.split(1))

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.inputs = ({INPUT: one.numpy()} for one in one_by_one)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.inputs, None)

    logging.disable(logging.WARNING)  # it recommends a pre-processing that the exporter has done, and logs its steps
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            quantization.quantize_static(
                proto,
                path,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=[convolutions[0], convolutions[-1]],
                per_channel=True,
                reduce_range=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": 99.99},
            )
    finally:
        logging.disable(logging.NOTSET)
    _finish(onnx.load(path), original, "int8", path)


def _middles(part: Part) -> Part:
    """The middle of every image, all of one size, which the quantizer needs; all activations for all are in memory."""
    height, width = (min(_CALIBRATION_SIDE, *(image.shape[axis] for image in part.images)) for axis in (1, 2))

    def cut(image: np.ndarray) -> np.ndarray:
        top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
        return image[:, top : top + height, left : left + width]

    clean, noisy = (None if images is None else as_images([*map(cut, images)]) for images in (part.clean, part.noisy))
    return replace(part, clean=clean, noisy=noisy)


def _write_fp16(original: Original, path: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    _finish(convert_float_to_float16(onnx.load(original.path), keep_io_types=True), original, "fp16", path)


def _finish(proto: onnx.ModelProto, original: Original, variant: str, path: Path) -> None:
    """Write what a converter made, after sorting its nodes and adding the facts that it left out."""
    model = onnx_ir.from_proto(proto)
    model.graph.sort()  # the casts of the input come last
    proto = onnx_ir.to_proto(model)
    for node in proto.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    del proto.graph.value_info[:]
    proto.ir_version = IR_VERSION
    proto.graph.name = "denoiser"
    proto.doc_string = onnx.load(original.path).doc_string
    onnx.helper.set_model_props(proto, {**original.metadata, "variant": variant})
    onnx.save(proto, path)


VARIANTS: dict[str, Variant] = {
    "uint8": Variant("pixels from 0 to 255 in and out", _write_uint8),
    "int8": Variant("convolutions in 8 bits", _write_int8),
    "fp16": Variant("weights and arithmetic in 16 bits", _write_fp16),
}


def known_variants(names: Sequence[str]) -> list[str]:
    """Each of the names once.

    Raises:
        PipelineError: one of them is not in `VARIANTS`.
    """
    for name in names:
        if name not in VARIANTS:
            raise unknown("--variant", name, VARIANTS)
    return list(dict.fromkeys(names))


def _score(
    sessions: Mapping[str, Session], float_session: Session, test: Part, noise: Noise
) -> dict[str, tuple[float, float]]:
    """Of each variant, the mean PSNR in dB, and how far it is below the float file on the same images."""
    found: dict[str, list[torch.Tensor]] = {name: [] for name in sessions}
    reference: dict[str, list[torch.Tensor]] = {dtype: [] for dtype in {FORMS[name].dtype for name in sessions}}
    for clean, noisy_images in noisy_batches(test, noise):
        pixels = to_integers(noisy_images.numpy())
        inputs = {"float32": noisy_images.numpy(), "uint8": pixels}
        floats = {"float32": noisy_images.numpy(), "uint8": to_floats(pixels)}
        for dtype, psnrs in reference.items():
            psnrs.append(psnr(torch.from_numpy(float_session(floats[dtype])).clamp(0, 1), clean))
        for name, session in sessions.items():
            dtype = FORMS[name].dtype
            denoised = session(inputs[dtype])
            denoised = to_floats(denoised) if dtype == "uint8" else denoised
            found[name].append(psnr(torch.from_numpy(denoised).clamp(0, 1), clean))
    means = {dtype: float(torch.cat(psnrs).mean()) for dtype, psnrs in reference.items()}
    results = {name: float(torch.cat(psnrs).mean()) for name, psnrs in found.items()}
    return {name: (result, means[FORMS[name].dtype] - result) for name, result in results.items()}


def _fidelity(sessions: Mapping[str, Session], float_session: Session, original: Original) -> dict[str, float]:
    """Of each variant, the PSNR in dB of its output against that of the float file for the same pixels."""
    errors: dict[str, list[float]] = {name: [] for name in sessions}
    for _, noisy in noisy_inputs(original.test[:_TORCH_IMAGES], original.noise):
        pixels = to_integers(noisy.numpy())
        for name, session in sessions.items():
            is_8_bits = FORMS[name].dtype == "uint8"
            wanted = float_session(to_floats(pixels) if is_8_bits else noisy.numpy()).clip(0, 1)
            found = to_floats(session(pixels)) if is_8_bits else session(noisy.numpy()).clip(0, 1)
            errors[name].extend(np.square(found - wanted).mean(axis=(1, 2, 3)).tolist())
    return {name: float(psnr_of_error(float(np.mean(of)))) for name, of in errors.items()}


@torch.no_grad()
def _check_rounding(file: str, session: Session, float_session: Session, original: Original) -> Iterator[Gate]:
    """Does every pixel equal the output of the float file rounded by torch, and the output of the model rounded?"""
    differ, off, pixels_seen = 0, 0, 0
    for _, noisy in noisy_inputs(original.test[:_TORCH_IMAGES], original.noise):
        pixels = to_integers(noisy.numpy())
        found = torch.from_numpy(session(pixels))
        differ += int((found != _round(torch.from_numpy(float_session(to_floats(pixels))))).sum())
        exact = original.model(torch.from_numpy(to_floats(pixels)))
        is_tie = ((exact * 255) % 1 - 0.5).abs() < _TIE
        off += int(((found != _round(exact)) & ~is_tie).sum())
        pixels_seen += found.numel()
    where = f"{file}: {pixels_seen:,} pixels"
    yield at_most("pixels that differ from the float file rounded by torch", where, differ, 0)
    yield at_most("pixels that differ from torch, except ties", where, off, 0)
    edges = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(original.channels, axis=1)
    difference = np.abs(
        to_floats(session(edges)) - to_floats(_round(original.model(torch.from_numpy(to_floats(edges)))).numpy())
    )
    yield at_most("every value from 0 to 255", file, float(difference.max()) * 255, 1)


def _relative_speed(path: Path, original: Original, dtype: str) -> float:
    """Images/s of a file on one thread, as a multiple of those of the float file."""
    _, noisy = next(noisy_inputs(original.test[:_TIMED_IMAGES], original.noise))
    inputs = {original.path: noisy.numpy(), path: to_integers(noisy.numpy()) if dtype == "uint8" else noisy.numpy()}
    seconds = seconds_in_turn(inputs)
    return seconds[original.path] / seconds[path]


def _round(images: torch.Tensor) -> torch.Tensor:
    return (images * 255).round().clamp(0, 255).to(torch.uint8)
