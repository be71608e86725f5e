"""Stage 4, export: write the best epoch of a run as ONNX, prove it, and pack the hand-off folder."""

from __future__ import annotations

import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

import click
import torch

from pipeline.config import Config
from pipeline.errors import ParityError, PipelineError
from pipeline.evaluation import noisy_batches
from pipeline.files import new_folder, sha256_file
from pipeline.models import count_parameters
from pipeline.onnx.export import export_onnx, read_onnx
from pipeline.onnx.handoff import MODEL, SUMS, Handoff, write_handoff
from pipeline.onnx.parity import MAX_ABS, Report, check
from pipeline.stages.inputs import TEST, load_checkpoint, load_training_data
from pipeline.tracking import Run, noise_metric

_SHOWN_IMAGES = 8


def export(config: Config, run: Run, folder: Path) -> Path:
    """Write the hand-off of `run` to `folder`, whole or not at all, log it to `run`, and return `folder`.

    Raises:
        ParityError: the file did not pass a gate. The report is logged to the run, nothing is written.
        PipelineError: the run was not evaluated, its data are not prepared, or `folder` holds something else.
    """
    if folder.exists() and not (folder / SUMS).is_file():
        raise PipelineError(f"{folder} exists and is no hand-off folder; choose another --name or --artifacts-dir")
    data = load_training_data(config, run)
    checkpoint = load_checkpoint(run)
    model = checkpoint.load_model(torch.device("cpu"))
    noise = config.training_noise
    handoff = Handoff(
        config=config,
        run_id=run.id,
        checkpoint=checkpoint,
        parameters=count_parameters(model),
        dataset=data.manifest,
        test_images=len(data.test),
        scores=_evaluated(run, noise.label),
        commit=run.tag("mlflow.source.git.commit"),
    )

    with new_folder(folder) as new:
        # Write the file, and hold it against the model.
        export_onnx(model, config.channels, new / MODEL, handoff.metadata())
        logged_psnr = run.metrics()[noise_metric("psnr", noise.label)]
        report = check(new / MODEL, model, data.test, noise, logged_psnr)
        if report.failures:
            run.log_tags({"parity": "failed"})
            _log_report(run, report)
            first = report.failures[0]
            raise ParityError(
                f"parity: {len(report.failures)} of {len(report.gates)} gates failed, the first: {first.gate} "
                f"({first.where}): {first.value}, allowed: {first.limit}. No hand-off was written; all gates are in "
                f"the artifact parity/parity_report.md of run {run.id}"
            )

        # Pack the folder.
        clean, noisy = next(noisy_batches(data.test[:_SHOWN_IMAGES], noise))
        with torch.no_grad():
            denoised = model(noisy)
        write_handoff(new, handoff, report, clean, noisy, denoised)

        # Log the file as a model, the folder as an artifact, and see that MLflow keeps the very same bytes.
        digest = sha256_file(new / MODEL)
        model_id = run.log_onnx(
            read_onnx(new / MODEL),
            noisy[:1].numpy(),
            step=checkpoint.epoch,
            requirements=[f"{name}=={version(name)}" for name in ("onnx", "onnxruntime", "numpy")],
            metadata={"sha256": digest, "weights_sha256": checkpoint.digest},
            extra_files=[new / "MODEL_CARD.md", new / "manifest.json"],
        )
        with run.logged_model(model_id) as copy:
            if sha256_file(copy / MODEL) != digest:
                raise ParityError(f"parity: MLflow's copy of {MODEL} (model {model_id}) differs from the exported file")
        run.log_folder(new, "handoff")
        run.log_metrics({"parity/max_abs_difference": report.max_abs}, step=checkpoint.epoch)
        run.log_tags({"parity": "passed", "model.onnx.sha256": digest, "python": platform.python_version()})

    click.echo(
        f"export: {folder}: {len(report.gates)} parity gates passed; largest difference from torch "
        f"{report.max_abs:.2g} (allowed: {MAX_ABS:g}); PSNR of the file {report.psnr:.2f} dB"
    )
    return folder


def _evaluated(run: Run, label: str) -> dict[str, dict[str, dict[str, float]]]:
    """What `evaluate` found: `{label of the noise: {denoiser: {metric: mean}}}`."""
    if noise_metric("psnr", label) not in run.metrics():
        raise PipelineError(f"run {run.id} was not evaluated; run: python -m pipeline evaluate --run-id {run.id}")
    with run.artifact(TEST) as path:
        return json.loads(path.read_text())["results"]


def _log_report(run: Run, report: Report) -> None:
    run.log_dict(report.to_dict(), "parity/parity_report.json")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "parity_report.md"
        path.write_text(report.to_markdown())
        run.log_file(path, "parity")
