"""The report, an HTML page for people who do not use MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from pipeline.config import CURVE_VARIANCES, RECIPE
from pipeline.handoff.card import TEMPLATES, score_table
from pipeline.handoff.description import Description
from pipeline.handoff.parity import MAX_ABS, Report
from pipeline.reports.rendering import render
from pipeline.scoring.quality import PSNR
from pipeline.training.objectives import TARGETS

CAPTIONS = {  # of the figures of a run
    "denoised": "The first test images: noisy, denoised, clean, and what was removed",
    "noise_levels": "The same images at every noise level",
    "worst": "The test images with the lowest PSNR",
    "psnr": "Quality from a clean image to far more noise than it was trained on",
    "loss": "The learning curve",
}

_CAPTIONS_WITHOUT_CLEAN = {
    "denoised": "The first test images: noisy, denoised, and what was removed",
    "worst": "The test images that the model is worst on",
}


def run_report(
    description: Description,
    parity: Report,
    figures: Mapping[str, bytes],
    baselines: Mapping[str, Mapping[str, float]],
    place: Mapping[str, str],
) -> str:
    """The page, as HTML.

    Args:
        description: of the model.
        parity: the gates, all of them passed.
        figures: SVG or PNG files by name; those named in `CAPTIONS` are shown.
        baselines: PSNR of classical denoisers, `{name: {label of the noise: dB}}`.
        place: where the file is, what it costs, how it is served: texts by what they are about.
    """
    config, noise = description.config, description.config.training_noise
    has_clean = description.quality.metric == PSNR
    recipe = [[name, str(value)] for name, value in asdict(config).items() if name in RECIPE]
    origin = {
        "seed": config.seed,
        "MLflow run": description.run_id,
        "git commit": description.commit or "unknown",
        "images": description.dataset["origin"],
        "licence of the images": description.dataset["licence"],
        "SHA-256 of all images": description.dataset["digest"],
        "SHA-256 of the weights": description.checkpoint.digest,
    }
    return render(
        TEMPLATES / "report.html",
        config=config,
        description=description,
        noise=noise,
        own=description.scores[noise.label],
        target="" if config.target == "clean" else f", compared with {TARGETS[config.target][1]}",
        quality=description.quality,
        scores=_scores(description, baselines),
        captions=CAPTIONS if has_clean else CAPTIONS | _CAPTIONS_WITHOUT_CLEAN,
        figures=figures,
        parity=parity,
        place=[["the file", ""], *map(list, place.items())],
        max_abs=MAX_ABS,
        curve=CURVE_VARIANCES,
        recipe=[["recipe", "value"], *recipe],
        origin=[["origin", "value"], *([name, str(value)] for name, value in origin.items())],
    )


def _scores(description: Description, baselines: Mapping[str, Mapping[str, float]]) -> Sequence[Sequence[str]]:
    scores = description.scores
    if description.quality.metric != PSNR:
        return score_table(scores, description.config.training_noise.label)
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
