"""Stage 4, export: write the best epoch of a run as ONNX, prove it, and pack the hand-off folder."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn

from pipeline.config import REFERENCE_VARIANCES, Config
from pipeline.data.prepared import PreparedData
from pipeline.errors import ParityError, PipelineError
from pipeline.files import new_folder, sha256_bytes, sha256_file
from pipeline.handoff import mlflow_loader
from pipeline.handoff.folder import FILES, Handoff, write_handoff
from pipeline.handoff.onnx_file import export_onnx
from pipeline.handoff.parity import MAX_ABS, Report, check, real_probes
from pipeline.handoff.report import CAPTIONS, TEMPLATES, run_report
from pipeline.handoff.timing import seconds_in_turn
from pipeline.handoff.variants import EightBits, Source, VariantFile, make_variants, to_8_bits
from pipeline.handoff.verify import MANIFEST, MODEL, SUMS, verify
from pipeline.models import count_parameters, other_modules
from pipeline.models.facts import halo
from pipeline.noise import GaussianNoise, Noise, make_noise
from pipeline.reports import rendering
from pipeline.scoring.score import noisy_batches
from pipeline.stages.inputs import load_checkpoint, load_training_data
from pipeline.tracking import names, queries, registry
from pipeline.tracking.fingerprint import digest, fingerprint
from pipeline.tracking.run import Run

_GOLDEN_IMAGES = 7  # to check a runtime with
_TIMED_IMAGES = 64
_SHOWN_IMAGES = 10  # at most, to look at


def export(
    config: Config, run: Run, folder: Path, variants: Sequence[str] = (), register: str = "", force: bool = False
) -> Path:
    """Write the hand-off of `run` to `folder`, whole or not at all, log it to `run`, and return `folder`.

    A hand-off that is there, whole, and made from the same by the same source, is reused.

    Args:
        config: that of the run.
        run: is written to.
        folder: the hand-off folder; one that is there is replaced.
        variants: other forms of the file to hand off with it, keys of `pipeline.handoff.variants.VARIANTS`.
        register: name of the registered model that it becomes a version of; "" for none.
        force: export again in any case.

    Raises:
        ParityError: a file did not pass a gate. The report is logged to the run, nothing is written or registered.
        PipelineError: the run was not evaluated, its data are not prepared, `folder` holds something else, or the
            registry did not take the model.
    """
    if folder.exists() and not (folder / SUMS).is_file():
        raise PipelineError(f"{folder} exists and is no hand-off folder; choose another --name or --artifacts-dir")
    data = load_training_data(config, run)
    checkpoint = load_checkpoint(run)
    noise = config.training_noise
    scores = _evaluated(run, noise.label)
    logged_psnr = run.metrics()[names.noise_metric("psnr", noise.label)]
    parts = fingerprint(
        "pipeline.stages.export",
        packages=("numpy", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "torch"),
        ignore=other_modules(config.model),
        files=[
            path for folder in (FILES, TEMPLATES, rendering.TEMPLATES) for path in folder.rglob("*") if path.is_file()
        ],
        run=run.id,
        config=sha256_bytes(config.to_json().encode()),
        data=data.digest,
        weights=checkpoint.digest,
        scores=sha256_bytes(json.dumps([scores, logged_psnr]).encode()),
        variants=",".join(variants) or "none",
    )
    model_id = run.tag(names.MODEL_ID)
    if not force and run.is_done("export", parts) and _is_whole(folder, digest(parts)) and (model_id or not register):
        click.echo(f"export: reusing {folder}, verified")
    else:
        model = checkpoint.load_model(torch.device("cpu"))
        probes = real_probes(data.test, noise)
        handoff = Handoff(
            config=config,
            run_id=run.id,
            fingerprint=digest(parts),
            checkpoint=checkpoint,
            parameters=count_parameters(model),
            dataset=data.manifest,
            test_images=len(data.test),
            halo=halo(model, config.channels),
            # A little more than what noise makes of real images: no integer from 0 to 255 but the lowest is inside.
            accepted=(math.floor(probes.min()) - 1.0, math.ceil(probes.max()) + 1.0),
            scores=scores,
            commit=run.tag(names.GIT_COMMIT),
        )
        model_id = _export(handoff, run, folder, model, data, probes, logged_psnr, variants)
        run.log_fingerprint("export", parts)
    if register:
        if not model_id:
            raise registry.not_registered(register, run.id, "the tracking store does not answer")
        tags = registry.version_tags(
            {label: of["denoised"]["psnr"] for label, of in scores.items()},
            **{
                names.DATASET: config.dataset_name,
                names.DATASET_SHA256: data.digest,
                names.NOISE: noise.spec,
                names.MODEL: config.model_name,
                names.PARAMETERS: str(run.facts()["parameters"]),
                names.WEIGHTS: checkpoint.digest,
                names.ONNX_SHA256: sha256_file(folder / MODEL),
                names.RUN: run.id,
            },
        )
        number = registry.register(model_id, register, run.id, tags)
        click.echo(
            f"export: {register} version {number}; make it the champion with: python -m pipeline promote {register}"
        )
    return folder


def _export(
    handoff: Handoff,
    run: Run,
    folder: Path,
    model: nn.Module,
    data: PreparedData,
    probes: np.ndarray,
    logged_psnr: float,
    variants: Sequence[str],
) -> str | None:
    """Write, prove, pack and log the hand-off; the id of the logged model, if the store has it."""
    noise = handoff.config.training_noise
    with new_folder(folder) as new:
        # Write the file, and hold it against the model.
        export_onnx(model, handoff.config.channels, new / MODEL, handoff.metadata())
        report = check(new / MODEL, model, data.test, noise, logged_psnr)
        made: list[VariantFile] = []
        if not report.failures:
            source = Source(
                new / MODEL,
                model,
                handoff.config.channels,
                handoff.metadata(),
                data.train,
                data.test,
                noise,
                _levels(noise),
            )
            made = make_variants(variants, source)
            report.gates.extend(gate for variant in made for gate in variant.gates)
        if report.failures:
            run.log_tags({names.PARITY: "failed"})
            _log_report(run, report)
            first = report.failures[0]
            raise ParityError(
                f"parity: {len(report.failures)} of {len(report.gates)} gates failed, the first: {first.gate} "
                f"({first.where}): {first.value}, allowed: {first.limit}. No hand-off was written; all gates are in "
                f"the artifact {names.PARITY_MARKDOWN} of run {run.id}"
            )

        # Pack the folder.
        write_handoff(new, handoff, report, made, _samples(model, data, noise), _golden(model, probes[:_GOLDEN_IMAGES]))

        # Log the file as a model, which MLflow must keep byte for byte, and the folder as an artifact.
        onnx_digest = sha256_file(new / MODEL)
        model_id = run.log_onnx(
            new / MODEL,
            probes[:1],
            loader=Path(mlflow_loader.__file__),
            step=handoff.checkpoint.images,
            requirements=[f"{name}=={version(name)}" for name in ("onnx", "onnxruntime", "numpy")],
            metadata={"sha256": onnx_digest, "weights_sha256": handoff.checkpoint.digest},
            extra_files=[new / "MODEL_CARD.md", new / MANIFEST],
        )
        run.log_folder(new, names.HANDOFF)
        run.log_text(run_report(handoff, report, _figures(run), _baselines(run)), names.REPORT)
        timed = probes[:_TIMED_IMAGES]
        seconds = seconds_in_turn({new / MODEL: timed})[new / MODEL]
        figures = {names.MAX_ABS_DIFFERENCE: report.max_abs, names.MILLISECONDS: 1000 * seconds / len(timed)}
        run.log_metrics(figures, step=handoff.checkpoint.images)
        run.log_tags({names.PARITY: "passed", names.ONNX_SHA256: onnx_digest, names.PYTHON: platform.python_version()})

    click.echo(
        f"export: {folder}: {len(report.gates)} parity gates passed; largest difference from torch "
        f"{report.max_abs:.2g} (allowed: {MAX_ABS:g}); PSNR of the file {report.psnr:.2f} dB"
    )
    for variant in made:
        click.echo(
            f"export: {folder / variant.path.name}: PSNR {variant.psnr[noise.label]:.2f} dB, "
            f"{variant.loss[noise.label]:.3f} dB lost; {variant.speed:.2f} times the images/s of {MODEL}"
        )
    return model_id


def _figures(run: Run) -> dict[str, bytes]:
    """Those that the run has, as PNG files by name."""
    figures = {}
    for name in CAPTIONS:
        with suppress(PipelineError), run.artifact(names.figure_file(name)) as path:
            figures[name] = path.read_bytes()
    return figures


def _baselines(run: Run) -> dict[str, dict[str, float]]:
    try:
        found = queries.baselines(run.tag(names.TEST_IMAGES_SHA256) or "", ["psnr"])
    except PipelineError:  # the store does not answer: the report does without
        return {}
    return {name: values["psnr"] for name, values in found.items()}


def _is_whole(folder: Path, fingerprint_digest: str) -> bool:
    """Whether a hand-off made from this is in `folder`, and nothing in it has changed since."""
    try:
        made_from = json.loads((folder / MANIFEST).read_text()).get("fingerprint")
    except (OSError, ValueError):
        return False
    return made_from == fingerprint_digest and all(gate.passed for gate in verify(folder, []))


def _levels(noise: Noise) -> dict[str, Noise]:
    """The training noise, and the reference levels that lie in the range it is drawn from, by label."""
    levels = {noise.label: noise}
    if isinstance(noise, GaussianNoise) and not noise.variance.is_number:
        for variance in REFERENCE_VARIANCES:
            if noise.variance.low <= variance <= noise.variance.high:
                level = make_noise("gaussian", f"{variance:g}")
                levels[level.label] = level
    return levels


@torch.no_grad()
def _samples(model: nn.Module, data: PreparedData, noise: Noise) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clean, noisy and denoised test images, of one size."""
    clean, noisy = next(noisy_batches(data.test[:_SHOWN_IMAGES], noise))
    return clean.numpy(), noisy.numpy(), model(noisy).numpy()


@torch.no_grad()
def _golden(model: nn.Module, noisy: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs and outputs to check a runtime with, the outputs by torch."""
    denoised = model(torch.from_numpy(noisy))
    rounded = EightBits(model)(torch.from_numpy(to_8_bits(noisy)))
    return {"noisy": noisy, "denoised": denoised.numpy(), "denoised_uint8": rounded.numpy()}


def _evaluated(run: Run, label: str) -> dict[str, dict[str, dict[str, float]]]:
    """What `evaluate` found: `{label of the noise: {denoiser: {metric: mean}}}`."""
    if names.noise_metric("psnr", label) not in run.metrics():
        raise PipelineError(f"run {run.id} was not evaluated; run: python -m pipeline evaluate --run-id {run.id}")
    with run.artifact(names.EVALUATION) as path:
        return dict(sorted(json.loads(path.read_text())["results"].items()))


def _log_report(run: Run, report: Report) -> None:
    run.log_dict(report.to_dict(), names.PARITY_JSON)
    run.log_text(report.to_markdown(), names.PARITY_MARKDOWN)
