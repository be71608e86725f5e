"""What the page of a comparison shows of one group of runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.noise import make_noise
from pipeline.reports import comparison_figures as plots
from pipeline.reports.image_rows import ImageRow, image_rows
from pipeline.reports.leaderboard import LEVELS, EvaluatedRun, Kind, pareto
from pipeline.reports.svg import as_element
from pipeline.stages.compare_artifacts import read_evaluation, read_samples
from pipeline.tracking import names, queries

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 6  # runs whose curves and pictures are shown
# What a model costs: the unit, how much, and how far that is known.
_COSTS: dict[str, tuple[str, Callable[[Kind], float], Callable[[Kind], float]]] = {
    "parameters": ("parameters", lambda kind: kind.best.parameters, lambda kind: 0.0),
    "multiply-adds": ("multiply-adds per pixel", lambda kind: kind.best.multiply_adds or math.nan, lambda kind: 0.0),
    "time": (
        "milliseconds per image, on one thread of this machine",
        lambda kind: kind.best.milliseconds or math.nan,
        lambda kind: kind.best.spread,
    ),
}


def draw(kinds: Sequence[Kind]) -> tuple[dict[str, str], list[ImageRow]]:
    """The plots of one group by name, as SVG for a page, and images."""
    best: dict[str, EvaluatedRun] = {}
    for kind in kinds:  # the best is the first
        best.setdefault(kind.best.model, kind.best)
    shown = dict(list(best.items())[:_SHOWN])
    drawn: dict[str, Figure] = {}
    if kinds[0].best.levels["psnr"]:
        drawn |= _by_noise(shown)
    drawn |= _by_cost([kind for kind in kinds if not math.isnan(kind.psnr)])
    drawn |= _curves([kind.best for kind in kinds])
    samples = {name: found for name, run in shown.items() if (found := read_samples(run.id))}
    return {name: as_element(figure) for name, figure in drawn.items()}, image_rows(samples) if samples else []


def _by_noise(runs: Mapping[str, EvaluatedRun]) -> dict[str, Figure]:
    """The quality of the runs by the name of their model, of the classical denoisers, and of the input."""
    found = {name: report for name, run in runs.items() if (report := read_evaluation(run.id))}
    if not found:
        return {}
    first = next(iter(runs.values()))
    # The classical denoisers had their input as it is.
    clipped = first.params.get("clip_input") == "True"
    baselines = {} if clipped else queries.baselines(first.group[0], ["psnr", "ssim"])
    labels = {float(level): make_noise("gaussian", level, clipped).label for level in LEVELS}
    figures = {}
    for metric, unit in {"psnr": "PSNR in dB", "ssim": "SSIM"}.items():
        lines = {name: _line(report, metric, "denoised", labels) for name, report in found.items()}
        for name, values in baselines.items():
            lines[name] = {float(level): values[metric][level] for level in LEVELS if level in values[metric]}
        of_input = _line(next(iter(found.values())), metric, "clipped", labels)
        figures[metric] = plots.quality_by_noise({name: line for name, line in lines.items() if line}, of_input, unit)
    return figures


def _line(report: Mapping[str, Any], metric: str, denoiser: str, labels: Mapping[float, str]) -> dict[float, float]:
    """A mean by the variance, as `evaluate` found it: the PSNR at more of them."""
    if metric == "psnr" and "curve" in report:
        curve = report["curve"]
        return dict(zip(curve["variances"], curve["psnr"][denoiser], strict=True))
    return {level: report["results"][label][denoiser][metric] for level, label in labels.items()}


def _by_cost(kinds: Sequence[Kind]) -> dict[str, Figure]:
    figures = {}
    for name, (unit, cost, spread) in _COSTS.items():
        known = [kind for kind in kinds if cost(kind) > 0]
        if len(known) > 1:  # a single point says nothing
            figures[name] = plots.quality_by_cost(known, pareto(known, cost, spread), cost, unit, spread)
    return figures


def _curves(runs: Sequence[EvaluatedRun]) -> dict[str, Figure]:
    """Of the validation PSNR; where no run has more than a point of it, of the loss of those that minimise the same."""
    shown = {f"{run.name} ({run.id[:4]})": run for run in runs[:_SHOWN]}
    psnrs = {name: queries.history(run.id, names.VALIDATION_PSNR) for name, run in shown.items()}
    if any(len(points) > 1 for points in psnrs.values()):
        return {
            "curves": plots.learning_curves({name: of for name, of in psnrs.items() if of}, "validation PSNR in dB")
        }
    alike = names.loss_metric(names.TRAIN, runs[0].params)
    losses = {
        name: queries.loss_history(run.id, run.params, names.TRAIN)
        for name, run in shown.items()
        if names.loss_metric(names.TRAIN, run.params) == alike
    }
    known = {name: points for name, points in losses.items() if points}
    return {"losses": plots.learning_curves(known, "training loss")} if known else {}
