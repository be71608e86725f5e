"""The tables of a comparison: for programs with a row for each run, for people with a row for each kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.reports.leaderboard import LEVELS, EvaluatedRun, Kind, differing_params, pareto
from pipeline.scoring.quality import ESTIMATED, LEVEL, NAMES, PSNR
from pipeline.tracking import names

LAST = "run id"  # column before those of the parameters that differ
_STAR = "*"
Column = tuple[str, Callable[[Kind], str]]  # its head, and its text for a row
_NAMED_SEEDS = 5
_IN_COLUMNS = "seed", "model", "size", "parameters"  # parameters that have a column, or are in one


def records(groups: Sequence[Sequence[Kind]]) -> list[dict[str, Any]]:
    """A row for each run, the best of the largest group first: text, numbers, and None for what is not known.

    All rows have the same columns: those below, and one for each further parameter in which the runs differ.
    """
    runs = [(kind, run) for kinds in groups for kind in kinds for run in kind.runs]
    differing = differing_params([run for _, run in runs])
    places = {id(kind): place for kinds in groups for place, kind in enumerate(_ranked(kinds), 1)}
    rows = []
    for kind, run in runs:
        quality, has_levels = run.quality, run.quality.metric == LEVEL
        row = {
            "place": places.get(id(kind)),
            "run_id": run.id,
            "run": run.name,
            "model": run.model,
            "seed": _value(run.params["seed"]),
            "dataset": dataset_of(run),
            "test_images": run.group[0],
            "noise": run.noise,
            "measure": NAMES[quality.metric],
            "psnr": _known(run.psnr),
            "input_psnr": None if has_levels else _known(quality.input),
            "gain": _known(quality.gain),
            "ssim": run.scores.get("ssim"),
            **{f"psnr_at_{level}": run.levels["psnr"].get(level) for level in LEVELS},
            "noise_level": quality.output if has_levels else None,
            "input_noise_level": quality.input if has_levels else None,
            "verdict": run.verdict,
            "parameters": run.parameters,
            "multiply_adds_per_pixel": run.multiply_adds,
            "ms_per_image": run.milliseconds,
            "ms_spread": None if run.milliseconds is None else run.spread,
            "training_seconds": run.seconds,
        }
        rows.append(row | {name: _value(run.params.get(name, "")) for name in differing if name not in row})
    return rows


def board(kinds: Sequence[Kind]) -> list[list[str]]:
    """The leaderboard of one group as rows, header first; every parameter in which the runs differ has a column.

    Which figures of quality there are depends on whether there are clean images, other captures, or neither.
    """
    runs = [run for kind in kinds for run in kind.runs]
    differing = [name for name in differing_params(runs) if name not in _IN_COLUMNS]
    front = {id(kind) for kind in pareto(kinds, lambda kind: kind.best.parameters)}
    places = {id(kind): place for place, kind in enumerate(_ranked(kinds), 1)}
    columns: list[Column] = [
        ("", lambda kind: f"{places.get(id(kind), '')}{f' {_STAR}' if id(kind) in front else ''}"),
        ("run", lambda kind: kind.best.name),
        ("model", lambda kind: kind.best.model),
        ("seed", _seeds),
        *_QUALITY[runs[0].quality.metric],
        ("verdict", _verdict),
        *_levels(runs[0]),
        ("parameters", lambda kind: f"{kind.best.parameters:,}"),
        ("multiply-adds per pixel", lambda kind: _or_nothing(kind.best.multiply_adds, ",.0f")),
        *_times(runs),
        ("training", lambda kind: f"{kind.mean(lambda run: run.seconds):.0f} s"),
        (LAST, lambda kind: kind.best.id[:8]),
        *((name, _param(name)) for name in differing),
    ]
    return [[head for head, _ in columns], *([text(kind) for _, text in columns] for kind in kinds)]


def importance(head: Sequence[str]) -> list[str]:
    """The heads of a leaderboard's columns, those first that a narrow terminal must show."""
    gain = "gain" if "gain" in head else "removed"
    quality = next(name for name in head if name in {"PSNR", "estimated PSNR", "noise after"})
    differing = head[head.index(LAST) + 1 :]
    return [*("", "run", quality, gain, LAST), *differing, *("model", "ms/image", "seed", "input", "parameters")]


def notes_on(kinds: Sequence[Kind]) -> list[str]:
    """What the signs in a leaderboard mean."""
    runs = [run for kind in kinds for run in kind.runs]
    said = {
        f"{_STAR} the best of the runs here that have no more parameters": any(kind.is_ranked for kind in kinds),
        "± the standard deviation over the seeds; name and id are those of the best of them": len(kinds) < len(runs),
        "ms/image: the median, ± half of the interquartile range, of runs in turn on one thread of this machine": any(
            run.milliseconds is not None for run in runs
        ),
    }
    return [text for text, holds in said.items() if holds]


def dataset_of(run: EvaluatedRun) -> str:
    return Path(run.tags[names.DATASET]).name


def _ranked(kinds: Sequence[Kind]) -> list[Kind]:
    return [kind for kind in kinds if kind.is_ranked]


def _seeds(kind: Kind) -> str:
    if len(kind.runs) > _NAMED_SEEDS:
        return f"{len(kind.runs)} seeds"
    return ", ".join(sorted((run.params["seed"] for run in kind.runs), key=lambda seed: (len(seed), seed)))


def _verdict(kind: Kind) -> str:
    worse = sum(not run.quality.is_better for run in kind.runs)
    if 0 < worse < len(kind.runs):
        return f"{worse} of {len(kind.runs)} no better than the input"
    return kind.best.verdict


def _levels(run: EvaluatedRun) -> list[Column]:
    """A column for each reference level that was scored, besides the noise of the training."""

    def column(level: str) -> Callable[[Kind], str]:
        return lambda kind: _spread(kind, lambda run: run.levels["psnr"][level], 2)

    has_column = run.params["variance"] if run.params["noise"] == "gaussian" else ""
    scored = [level for level in LEVELS if level in run.levels["psnr"] and level != has_column]
    return [(f"PSNR at {level}", column(level)) for level in scored]


def _times(runs: Sequence[EvaluatedRun]) -> list[Column]:
    def time(kind: Kind) -> str:
        return "" if kind.best.milliseconds is None else f"{kind.best.milliseconds:.3f} ± {kind.best.spread:.3f}"

    return [("ms/image", time)] if any(run.milliseconds is not None for run in runs) else []


def _param(name: str) -> Callable[[Kind], str]:
    return lambda kind: kind.best.params.get(name, "")


def _spread(kind: Kind, of: Callable[[EvaluatedRun], float], digits: int, sign: str = "") -> str:
    """The mean over the runs, and if there are several their standard deviation; "" for what is not known."""
    if math.isnan(mean := kind.mean(of)):
        return ""
    return f"{mean:{sign}.{digits}f}" + (f" ± {kind.deviation(of):.{digits}f}" if len(kind.runs) > 1 else "")


def _or_nothing(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _value(text: str) -> int | float | str:
    """The number that a text is, or else the text."""
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else text
    return text


_INPUT: Column = "input", lambda kind: _spread(Kind([kind.best]), lambda run: run.quality.input, 2)  # all have the same
_GAIN: Column = "gain", lambda kind: _spread(kind, lambda run: run.quality.gain, 2, "+")

# The columns of the quality, by what it is.
_QUALITY: dict[str, list[Column]] = {
    PSNR: [
        _INPUT,
        ("PSNR", lambda kind: _spread(kind, lambda run: run.psnr, 2)),
        _GAIN,
        ("SSIM", lambda kind: _spread(kind, lambda run: run.scores.get("ssim", math.nan), 4)),
    ],
    ESTIMATED: [
        _INPUT,
        ("estimated PSNR", lambda kind: _spread(kind, lambda run: run.psnr, 2) or "not known"),
        _GAIN,
        ("how sure", lambda kind: kind.best.quality.note),
    ],
    LEVEL: [
        ("noise before", lambda kind: _spread(kind, lambda run: run.quality.input, 4)),
        ("noise after", lambda kind: _spread(kind, lambda run: run.quality.output, 4)),
        ("removed", lambda kind: _spread(kind, lambda run: run.scores["removed"], 4)),
        ("its whiteness", lambda kind: _spread(kind, lambda run: run.scores["whiteness"], 3)),
    ],
}
