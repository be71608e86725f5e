"""The model card, Markdown for people who were only given the hand-off folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.handoff.description import Description
from pipeline.handoff.parity import MAX_ABS, MAX_ABS_UP_TO, Report
from pipeline.handoff.variants import MAX_LOSS
from pipeline.handoff.verify import INPUT, IR_VERSION, MANIFEST, MODEL, OPSET, OUTPUT, SUMS
from pipeline.reports.rendering import render

TEMPLATES = Path(__file__).parent / "templates"


def model_card(description: Description, report: Report, files: Sequence[Mapping[str, Any]]) -> str:
    """The card, as Markdown.

    Args:
        description: of the model.
        report: of the gates, all of them passed.
        files: what the manifest says of each ONNX file, the float file first.
    """
    label = description.config.training_noise.label
    gains = {name: of["denoised"]["psnr"] - of["clipped"]["psnr"] for name, of in description.scores.items()}
    return render(
        TEMPLATES / "model_card.md",
        description=description,
        config=description.config,
        noise=description.config.training_noise,
        worse=[name for name, gain in gains.items() if gain < 0],
        report=report,
        files=[{**file, "lost": _lost(file.get("psnr_lost_db", {}), label)} for file in files],
        names={"model": MODEL, "manifest": MANIFEST, "sums": SUMS, "input": INPUT, "output": OUTPUT},
        opset=OPSET,
        ir_version=IR_VERSION,
        max_abs=MAX_ABS,
        max_abs_up_to=MAX_ABS_UP_TO,
        max_loss=MAX_LOSS,
    )


def _lost(losses: Mapping[str, float], label: str) -> str:
    """The dB that a variant loses, such as `0.063 (0.001: 0.081, 0.1: 0.012)`; empty for the float file."""
    if not losses:
        return ""
    others = ", ".join(f"{name}: {loss:.3f}" for name, loss in losses.items() if name != label)
    return f"{losses[label]:.3f}" + (f" ({others})" if others else "")
