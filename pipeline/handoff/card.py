"""The model card, Markdown for people who were only given the hand-off folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.handoff.description import Description
from pipeline.handoff.onnxruntime_web import PACKAGE
from pipeline.handoff.parity import MAX_ABS, MAX_ABS_UP_TO, Report
from pipeline.handoff.variants import MAX_LOSS
from pipeline.reports.rendering import render
from pipeline.scoring.quality import ESTIMATED, LEVEL, PSNR, Quality
from pipeline.verification.folder import MANIFEST, MODEL, SUMS
from pipeline.verification.graph import INPUT, IR_VERSION, OPSET, OUTPUT

_HEADS = {
    PSNR: ["noise", "PSNR of the input", "of the clipped input", "of the output", "SSIM of the output"],
    ESTIMATED: ["noise", "estimated PSNR of the input", "of the clipped input", "of the output", ""],
    LEVEL: ["noise", "noise level of the input", "of the clipped input", "of the output", "removed", "its whiteness"],
}
TEMPLATES = Path(__file__).parent / "templates"


def model_card(description: Description, report: Report, files: Sequence[Mapping[str, Any]]) -> str:
    """The card, as Markdown.

    Args:
        description: of the model.
        report: of the gates, all of them passed.
        files: what the manifest says of each ONNX file, the float file first.
    """
    label = description.config.training_noise.label
    quality = {name: Quality.of(of) for name, of in description.scores.items()}
    return render(
        TEMPLATES / "model_card.md",
        description=description,
        config=description.config,
        noise=description.config.training_noise,
        worse=[name for name, of in quality.items() if not of.is_better],
        quality=quality[label],
        scores=score_table(description.scores, label),
        report=report,
        files=[_file(file, label) for file in files],
        names={"model": MODEL, "manifest": MANIFEST, "sums": SUMS, "input": INPUT, "output": OUTPUT},
        onnxruntime_web=PACKAGE,
        opset=OPSET,
        ir_version=IR_VERSION,
        max_abs=MAX_ABS,
        max_abs_up_to=MAX_ABS_UP_TO,
        max_loss=MAX_LOSS,
    )


def score_table(scores: Mapping[str, Mapping[str, Mapping[str, float]]], own: str) -> list[list[str]]:
    """Rows of the scores by noise, the head first; which columns there are depends on what could be measured.

    Args:
        scores: `{label of the noise: {denoiser: {metric: mean}}}`.
        own: the label of the noise that the model was trained for.
    """
    metric = Quality.of(scores[own]).metric
    rows = [_HEADS[metric]]
    for label, of in scores.items():
        noisy, clipped, denoised = of["noisy"], of["clipped"], of["denoised"]
        if metric == PSNR:
            cells = [f"{values['psnr']:.2f} dB" for values in (noisy, clipped, denoised)] + [f"{denoised['ssim']:.4f}"]
        elif metric == ESTIMATED:
            both = (Quality.of({"clipped": clipped, "denoised": values}) for values in (noisy, clipped, denoised))
            cells = ["not known" if math.isnan(one.output) else f"{one.output:.2f} dB" for one in both]
            cells.append(Quality.of(of).note)
        else:
            cells = [f"{values['sigma']:.4f}" for values in (noisy, clipped, denoised)]
            cells += [f"{denoised['removed']:.4f}", f"{denoised['whiteness']:.3f}"]
        rows.append([f"{label} (trained for)" if label == own else label, *cells])
    return rows


def _file(file: Mapping[str, Any], label: str) -> dict[str, Any]:
    """What the manifest says of a file, with its figures as text."""
    psnr = file.get("test_psnr_db", {}).get(label)
    return {
        **file,
        "psnr": "" if psnr is None else f"{psnr:.3f}",
        "lost": _lost(file.get("psnr_lost_db", {}), label),
    }


def _lost(losses: Mapping[str, float], label: str) -> str:
    """The dB that a variant loses, such as `0.063 (0.001: 0.081, 0.1: 0.012)`; empty for the float file."""
    if not losses:
        return ""
    others = ", ".join(f"{name}: {loss:.3f}" for name, loss in losses.items() if name != label)
    return f"{losses[label]:.3f}" + (f" ({others})" if others else "")
