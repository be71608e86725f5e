"""What a colleague reads of a run without MLflow: one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pipeline.config import CURVE_VARIANCES, RECIPE
from pipeline.handoff.folder import Handoff
from pipeline.handoff.parity import MAX_ABS, Report
from pipeline.reports.rendering import render
from pipeline.training.objectives import TARGETS

TEMPLATES = Path(__file__).parent / "templates"
CAPTIONS = {  # of the figures of a run
    "denoised": "The first test images: noisy, denoised, clean, and what was removed",
    "noise_levels": "The same images at every noise level",
    "worst": "Where it does worst",
    "psnr": "Quality from a clean image to far more noise than it was trained on",
    "loss": "The training",
}


def run_report(
    handoff: Handoff, parity: Report, figures: Mapping[str, bytes], baselines: Mapping[str, Mapping[str, float]]
) -> str:
    """The page, as HTML.

    Args:
        handoff: what is handed off.
        parity: every gate that the file has passed.
        figures: PNG files by name; those of `CAPTIONS` are shown.
        baselines: PSNR of classical denoisers, `{name: {label of the noise: dB}}`.
    """
    config, noise = handoff.config, handoff.config.training_noise
    recipe = [[name, str(value)] for name, value in asdict(config).items() if name in RECIPE]
    origin = {
        "seed": config.seed,
        "MLflow run": handoff.run_id,
        "git commit": handoff.commit or "unknown",
        "images": handoff.dataset["origin"],
        "licence of the images": handoff.dataset["licence"],
        "SHA-256 of all images": handoff.dataset["digest"],
        "SHA-256 of the weights": handoff.checkpoint.digest,
    }
    return render(
        TEMPLATES / "report.html",
        config=config,
        handoff=handoff,
        noise=noise,
        own=handoff.scores[noise.label],
        target="" if config.target == "clean" else f", compared with {TARGETS[config.target][1]}",
        scores=_scores(handoff.scores, baselines),
        captions=CAPTIONS,
        figures=figures,
        parity=parity,
        max_abs=MAX_ABS,
        curve=CURVE_VARIANCES,
        recipe=[["", ""], *recipe],
        origin=[["", ""], *([name, str(value)] for name, value in origin.items())],
    )


def _scores(
    scores: Mapping[str, Mapping[str, Mapping[str, float]]], baselines: Mapping[str, Mapping[str, float]]
) -> Sequence[Sequence[str]]:
    accuracy = any("accuracy" in of["denoised"] for of in scores.values())
    head = ["noise", "input", "clipped", *baselines, "denoised", "SSIM", *(["digits read"] if accuracy else [])]
    rows = [head]
    for label, of in scores.items():
        classical = [f"{psnrs[label]:.2f}" if label in psnrs else "" for psnrs in baselines.values()]
        read = [f"{of['denoised']['accuracy']:.2%}" if "accuracy" in of["denoised"] else ""] if accuracy else []
        psnr = {name: f"{values['psnr']:.2f}" for name, values in of.items()}
        ssim = f"{of['denoised']['ssim']:.4f}"
        rows.append([label, psnr["noisy"], psnr["clipped"], *classical, psnr["denoised"], ssim, *read])
    return rows
