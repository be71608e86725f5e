"""What a colleague reads of a run without MLflow: one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from pipeline.config import CURVE_VARIANCES, RECIPE
from pipeline.handoff.folder import Handoff
from pipeline.handoff.parity import MAX_ABS, Report
from pipeline.reports import html
from pipeline.training.objectives import TARGETS

CAPTIONS = {  # of the figures of a run
    "denoised": "The first test images: noisy, denoised, clean, and what was removed",
    "noise_levels": "The same images at every noise level",
    "worst": "Where it does worst",
    "psnr": "Quality from a clean image to far more noise than it was trained on",
    "loss": "The training",
}
_CLIENT = """import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
noisy = ...  # float32 [batch, {channels}, height, width], clean pixels in [0, 1], any height and width
denoised = session.run(["denoised"], {{"noisy": noisy}})[0]"""


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
    own = handoff.scores[noise.label]
    recipe = {name: value for name, value in asdict(config).items() if name in RECIPE}
    target = "" if config.target == "clean" else f", compared with {TARGETS[config.target][1]}"
    parts = [
        html.paragraph(
            f"The model is {config.model_name}, of {handoff.parameters:,} parameters, trained on "
            f"{config.dataset_name} with {noise.description}{target}. "
            f"On the {handoff.test_images:,} test images it gives {own['denoised']['psnr']:.2f} dB, where the noisy "
            f"input has {own['noisy']['psnr']:.2f} dB, and {own['clipped']['psnr']:.2f} dB clipped to [0, 1]."
        ),
        html.heading("How good it is"),
        html.table(_scores(handoff.scores, baselines)),
        html.paragraph(
            "PSNR in dB, mean over the test images of that of each, data range 1, output clipped to [0, 1]; SSIM with "
            "an 11x11 Gaussian window. Noise: variance of Gaussian noise, unless it says otherwise."
        ),
        *(html.picture(caption, figures[name]) for name, caption in CAPTIONS.items() if name in figures),
        html.heading("That the file is the model"),
        html.paragraph(
            f"model.onnx was read back from disk and passed all {len(parity.gates)} gates. Its largest difference "
            f"from torch is {parity.max_abs:.2g} (allowed: {MAX_ABS:g}); its PSNR on the test images is "
            f"{parity.psnr:.2f} dB."
        ),
        html.heading("How to use it"),
        html.code(_CLIENT.format(channels=config.channels)),
        html.paragraph(
            "Not to be relied on for other images than those of its kind, nor far from its noise: see the curve from "
            f"variance {CURVE_VARIANCES[0]:g} to {CURVE_VARIANCES[-1]:g}."
        ),
        html.heading("How it was made"),
        html.table([["", ""], *([name, str(value)] for name, value in recipe.items())], kind="left"),
        html.table(
            [
                ["", ""],
                ["seed", str(config.seed)],
                ["MLflow run", handoff.run_id],
                ["git commit", handoff.commit or "unknown"],
                ["images", str(handoff.dataset["origin"])],
                ["licence of the images", str(handoff.dataset["licence"])],
                ["SHA-256 of all images", str(handoff.dataset["digest"])],
                ["SHA-256 of the weights", handoff.checkpoint.digest],
            ],
            kind="left",
        ),
    ]
    return html.document(config.run_name, parts)


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
