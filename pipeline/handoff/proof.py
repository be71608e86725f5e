"""Write the ONNX files of a model, and prove that they are that model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from pipeline.config import REFERENCE_VARIANCES
from pipeline.data.prepared import PreparedData
from pipeline.files import sha256_file
from pipeline.handoff.description import Description
from pipeline.handoff.onnx_file import export_onnx
from pipeline.handoff.parity import Report, check, real_probes
from pipeline.handoff.timing import seconds_in_turn
from pipeline.handoff.variants import Original, VariantFile, make_variants
from pipeline.noise import GaussianNoise, Noise, make_noise
from pipeline.verification.folder import MODEL
from pipeline.verification.gates import Gate, none_of

_TIMED_IMAGES = 64


@dataclass(frozen=True)
class Proof:
    """What was found when the files were held against the model."""

    report: Report  # every gate: those of the float file, then those of the variants
    variants: Sequence[VariantFile]  # empty if the float file failed
    milliseconds: float  # per image, that the float file takes on one thread; NaN if a gate failed
    digests: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of the files that the gates saw, by name


def prove(
    folder: Path,
    model: nn.Module,
    description: Description,
    data: PreparedData,
    logged: Mapping[str, float],
    variants: Sequence[str],
) -> Proof:
    """Write `model.onnx` and its variants to `folder`, and put each through its gates.

    Args:
        folder: is there.
        model: with the weights of the best epoch, on the CPU, in eval mode.
        description: of the model; its facts go into the files.
        data: the test images are for the gates, the training images for calibrating variants.
        logged: the scores of the model on the test images that `evaluate` logged, with the training noise.
        variants: other forms of the file to write, keys of `pipeline.handoff.variants.VARIANTS`.
    """
    config, path = description.config, folder / MODEL
    noise, metadata = config.training_noise, description.metadata()
    export_onnx(model, description.channels, path, metadata)
    digests = {path.name: sha256_file(path)}
    report = check(path, model, data.test, noise, logged)
    if report.failures:
        return Proof(report, (), float("nan"))

    original = Original(path, model, description.channels, metadata, data.train, data.test, noise, _levels(noise))
    made = make_variants(variants, original)
    digests |= {variant.path.name: sha256_file(variant.path) for variant in made}
    report = replace(report, gates=[*report.gates, *(gate for variant in made for gate in variant.gates)])
    if report.failures:
        return Proof(report, made, float("nan"))

    timed = real_probes(data.test, noise)[:_TIMED_IMAGES]
    return Proof(report, made, 1000 * seconds_in_turn({path: timed})[path] / len(timed), digests)


def check_packed(folder: Path, proof: Proof) -> list[Gate]:
    """Check that a packed folder holds the files that were proved, and passes its receiver's check: its own script."""
    found = {name: sha256_file(folder / name) for name in proof.digests if (folder / name).is_file()}
    changed = sorted(name for name, digest in proof.digests.items() if found.get(name) != digest)
    # Isolated, as at a receiver that does not have the pipeline.
    done = subprocess.run([sys.executable, "-I", folder / "verify.py"], capture_output=True, text=True)
    said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return [
        none_of("files that are not those that were proved", "folder", changed),
        Gate(
            "the receiver's check",
            "verify.py",
            "passed" if done.returncode == 0 else said,
            "passed",
            not done.returncode,
        ),
    ]


def _levels(noise: Noise) -> dict[str, Noise]:
    """The training noise, and the reference levels inside the range that it is drawn from, by label."""
    levels = {noise.label: noise}
    if isinstance(noise, GaussianNoise) and not noise.variance.is_number:
        for variance in REFERENCE_VARIANCES:
            if noise.variance.low <= variance <= noise.variance.high:
                level = make_noise("gaussian", f"{variance:g}")
                levels[level.label] = level
    return levels
