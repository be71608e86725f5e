"""The plots that put several models side by side. They have no titles of their own: the page has captions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from pipeline.reports.figures import PALETTE, noise_axis, shown_name
from pipeline.reports.leaderboard import Kind
from pipeline.scoring.quality import NAMES

INPUT = "input, clipped to [0, 1]"
_MARKERS = "os^Dv*"
_OTHERS = "#888888"
_SIZE = 5.2, 3.9  # inches: of figures that are read on a phone, too
_LEAST_SPAN = 1.0  # dB: what differs by less should look alike
_LEGEND = 66  # letters that fit in a line of it
_HIGHEST = 62.0  # dB that are shown: a clean input has a PSNR of 100

Style = dict[str, Any]


def styles(models: Iterable[str]) -> dict[str, Style]:
    """A colour and a marker for each of the first models; the others share a grey."""
    found = {}
    for index, name in enumerate(models):
        if index < len(_MARKERS):
            found[name] = {"color": PALETTE[index], "marker": _MARKERS[index]}
        else:
            found[name] = {"color": _OTHERS, "marker": "."}
    return found


def quality_by_noise(
    quality: Mapping[str, Mapping[float, float]], of_input: Mapping[float, float], metric: str, title: str = ""
) -> Figure:
    """Mean quality of several denoisers, `{denoiser: {variance: value}}`, and of their input, by the noise."""
    figure, axes = _figure()
    of_style = styles(quality)
    axes.plot(*_by_level(of_input), "--", color=_OTHERS, label=INPUT)
    for name, values in quality.items():
        axes.plot(*_by_level(values), label=shown_name(name), markersize=5, **of_style[name])
    noise_axis(axes, [level for values in (of_input, *quality.values()) for level in values])
    axes.set(ylabel=f"{metric}, test images", ylim=(None, min(axes.get_ylim()[1], _HIGHEST)))
    axes.set_title(title, fontsize=10)
    _finish(figure, axes)
    return figure


def quality_by_cost(
    kinds: Sequence[Kind],
    front: Sequence[Kind],
    cost: Callable[[Kind], float],
    unit: str,
    spread: Callable[[Kind], float] = lambda kind: 0.0,
) -> Figure:
    """PSNR at the training noise, or its estimate, against the cost; that of the input, and the Pareto front, as lines.

    Args:
        kinds: of one group, with a PSNR and a cost each.
        front: the Pareto front, by cost.
        cost: of a kind.
        unit: of the cost, for the axis.
        spread: how far its cost is known, in the same unit.
    """
    figure, axes = _figure()
    of_style = styles(dict.fromkeys(kind.best.model for kind in kinds))
    _input_line(axes, kinds)
    axes.plot(
        *zip(*((cost(kind), kind.psnr) for kind in front), strict=True) if front else ((), ()), color=_OTHERS, lw=1
    )
    for model, style in of_style.items():
        of_model = [kind for kind in kinds if kind.best.model == model]
        places = [cost(kind) for kind in of_model], [kind.psnr for kind in of_model]
        deviations = [kind.deviation(lambda run: run.psnr) for kind in of_model]
        spreads = [min(spread(kind), 0.9 * cost(kind)) for kind in of_model]  # the axis has no place for 0
        axes.errorbar(*places, deviations, spreads, fmt="none", ecolor=style["color"], elinewidth=1)
        axes.plot(*places, linestyle="", label=shown_name(model), **style)
    _cost_axis(axes, [cost(kind) for kind in kinds])
    _span(axes)
    axes.set(xlabel=unit, ylabel=f"{NAMES[kinds[0].best.quality.metric]} in dB, test images")
    _finish(figure, axes)
    return figure


def learning_curves(curves: Mapping[str, Sequence[tuple[int, float]]], what: str) -> Figure:
    """What was measured during the trainings of several runs, `{run: [(images, value), …]}`, by the images seen."""
    figure, axes = _figure()
    of_style = styles(curves)
    for name, points in curves.items():
        images, values = zip(*points, strict=True)
        axes.plot(images, values, label=shown_name(name), markersize=4, **of_style[name])
    axes.set(xlabel="training images seen", ylabel=what)
    _span(axes)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.locator_params(axis="x", nbins=5)
    _finish(figure, axes)
    return figure


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    return figure, figure.add_subplot()


def _by_level(values: Mapping[float, float]) -> tuple[list[float], list[float]]:
    levels = sorted(values)
    return levels, [values[level] for level in levels]


def _input_line(axes: Axes, kinds: Sequence[Kind]) -> None:
    known = [run.quality.input for kind in kinds for run in kind.runs if not math.isnan(run.quality.input)]
    if known:
        axes.axhline(known[0], linestyle="--", color=_OTHERS, label=INPUT)


def _cost_axis(axes: Axes, costs: Sequence[float]) -> None:
    """A logarithmic axis of at least a decade: what costs nearly the same should look alike."""
    decades = math.log10(max(costs) / min(costs))
    room = max(0.15, (1 - decades) / 2)  # on each side
    axes.set_xscale("log")
    axes.set_xlim(min(costs) / 10**room, max(costs) * 10**room)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,)))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _span(axes: Axes) -> None:
    low, high = axes.get_ylim()
    if high - low < _LEAST_SPAN:
        middle = (low + high) / 2
        axes.set_ylim(middle - _LEAST_SPAN / 2, middle + _LEAST_SPAN / 2)


def _finish(figure: Figure, axes: Axes) -> None:
    """The legend is below, where no points are."""
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    columns = max(1, min(len(labels), _LEGEND // (max(map(len, labels), default=1) + 6)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
