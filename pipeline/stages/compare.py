"""Compare runs that are done: tables in the terminal, and a page with figures."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np
import torch

from pipeline.errors import PipelineError, counted
from pipeline.files import write_file
from pipeline.reports import figures, leaderboard
from pipeline.reports.comparison import Section, comparison_page
from pipeline.reports.leaderboard import LEVELS, EvaluatedRun
from pipeline.reports.tables import markdown_table
from pipeline.text import say, shown
from pipeline.tracking import names, opening, queries, store

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Run

    from pipeline.scoring.evaluation import Sample

_SHOWN = 6  # runs whose curves and pictures are shown


def compare(ids: Sequence[str], query: str, output: Path, data_dir: str) -> None:
    """Print a leaderboard of the runs, write a page and its figures to `output`, and log them as a run.

    Args:
        ids: of runs; of a sweep or a comparison, its children. None: all runs of the experiment.
        query: MLflow's filter of the runs of the experiment; those that `ids` names are not filtered.
        output: a folder, made if it is not there.
        data_dir: where this process keeps what it needs meanwhile.

    Raises:
        PipelineError: a run does not exist, the query is wrong, or none of the runs can be compared.
    """
    runs = _named(ids) if ids else queries.find_runs(query)
    entries = _entries(runs, tell=bool(ids))
    if not entries:
        raise PipelineError("no finished and evaluated runs to compare")
    groups = leaderboard.grouped(entries)
    if len(groups) > 1:
        say(f"compare: {len(groups)} kinds of data and noise, which do not compare: a table for each")
    boards = [leaderboard.leaderboard(group) for group in groups]
    notes = [leaderboard.note_on(board) for board in boards]
    tables = [
        f"{shown(_title(group))}\n\n{markdown_table(board)}" + (f"\n{note}\n" if note else "")
        for group, board, note in zip(groups, boards, notes, strict=True)
    ]
    for table in tables:
        say("", *table.splitlines())
    worse = [shown(line) for group in groups for line in leaderboard.worse_than_nothing(group)]
    say(*worse)

    lines: list[str] = []
    if len(ids) == 2 and len(entries) == 2:
        one, other = sorted(entries, key=lambda entry: list(ids).index(entry.id))
        lines = leaderboard.difference(one, other, _entries(queries.find_runs(""), tell=False))
        say("", f"From {one.name} ({one.id[:8]}) to {other.name} ({other.id[:8]}):", *lines)

    try:
        output.mkdir(parents=True, exist_ok=True)
        sections = [
            Section(_title(group), board, note, dict(_draw(group)), leaderboard.worse_than_nothing(group))
            for group, board, note in zip(groups, boards, notes, strict=True)
        ]
        files = {
            f"{name}{number}.png": png
            for number, section in enumerate(sections, 1)
            for name, png in section.pictures.items()
        }
        files[names.COMPARISON_PAGE] = comparison_page(sections, lines).encode()
        for name, content in files.items():
            write_file(output / name, content)
    except OSError as error:
        raise PipelineError(f"cannot write {error.filename or output}: {error.strerror}") from error
    with opening.start_comparison(f"compare-{len(entries)}-runs", data_dir) as run:
        for name in files:
            run.log_file(output / name, names.COMPARISON)
        run.describe("\n\n".join([*tables, *worse]))
    say(f"compare: {output / names.COMPARISON_PAGE}, and in run {run.id}")


def _named(ids: Sequence[str]) -> list[Run]:
    client = store.connect()
    runs = []
    for run_id in ids:
        run = store.ask(f"run {run_id}", partial(client.get_run, run_id))
        runs += queries.children(run_id) or [run]
    return runs


def _entries(runs: Sequence[Run], tell: bool) -> list[EvaluatedRun]:
    entries = []
    for run in runs:
        try:
            entries.append(leaderboard.read_run(run))
        except PipelineError as error:
            if tell:
                say(f"compare: run {run.info.run_id} is left out: {error}")
    return entries


def _title(group: Sequence[EvaluatedRun]) -> str:
    dataset, digest = Path(group[0].tags[names.DATASET]).name, group[0].group[0][:8]
    return f"{counted(len(group), 'run')} on {dataset} ({digest}), {group[0].noise}"


def _draw(group: Sequence[EvaluatedRun]) -> list[tuple[str, bytes]]:
    best: dict[str, EvaluatedRun] = {}
    for entry in group:  # the best is the first
        best.setdefault(entry.model, entry)
    shown = dict(list(best.items())[:_SHOWN])
    units = {"psnr": "PSNR in dB"} if group[0].levels["psnr"] else {}
    # The classical denoisers had their input as it is.
    clipped = group[0].params.get("clip_input") == "True"
    baselines = {} if clipped or not units else queries.baselines(group[0].group[0], list(units))
    drawn = [
        *((metric, _by_noise(shown, baselines, metric, unit)) for metric, unit in units.items()),
    ]
    ranked = [entry for entry in group if not math.isnan(entry.psnr)]
    if ranked:
        cost = _by_cost(ranked, lambda entry: entry.parameters, "parameters", "Quality by parameters")
        drawn.append(("parameters", cost))
    timed = [entry for entry in ranked if entry.milliseconds is not None]
    if timed:
        unit = "milliseconds per image, in onnxruntime on one thread of the machine that exported it"
        drawn.append(("time", _by_cost(timed, lambda entry: entry.milliseconds or 0.0, unit, "Quality by time")))
    curves = {}
    alike = [entry for entry in group if entry.params["loss"] == group[0].params["loss"]]  # others have another scale
    for entry in alike[:_SHOWN]:
        if points := queries.loss_history(entry.id, entry.params, names.TRAIN):
            curves[f"{entry.name} ({entry.id[:4]})"] = points
    drawn.append(("curves", figures.learning_curves(curves)))
    if samples := _samples(shown):
        drawn.append(("denoised", figures.denoised_by(samples, f"Test images, {group[0].noise}")))
    pictures = []
    for name, figure in drawn:
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=110)
        pictures.append((name, content.getvalue()))
    return pictures


def _by_noise(
    entries: Mapping[str, EvaluatedRun],
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]],
    metric: str,
    unit: str,
) -> Figure:
    """Of the entries by the name of their model, and of the classical denoisers."""
    lines = {name: [entry.levels[metric][level] for level in LEVELS] for name, entry in entries.items()}
    for name, values in baselines.items():
        if set(LEVELS) <= set(values[metric]):
            lines[name] = [values[metric][level] for level in LEVELS]
    variances = [float(level) for level in LEVELS]
    return figures.quality_comparison(variances, lines, "Gaussian noise; the best run of every model", unit)


def _samples(entries: Mapping[str, EvaluatedRun]) -> dict[str, Sample]:
    """The test images that `evaluate` has shown, by the name of the model."""
    found: dict[str, Sample] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, entry in entries.items():
            try:
                with np.load(store.download(entry.id, names.SAMPLES, folder), allow_pickle=False) as arrays:
                    clean = torch.from_numpy(arrays["clean"]) if "clean" in arrays else None
                    noisy, denoised = torch.from_numpy(arrays["noisy"]), torch.from_numpy(arrays["denoised"])
                if noisy.ndim != 4 or any(part.shape != noisy.shape for part in (denoised, clean) if part is not None):
                    raise ValueError("no images")
                found[name] = clean, noisy, denoised
            except PipelineError as error:  # deleted: the rest is worth showing
                say(f"compare: no pictures: {error}")
                continue
            except (OSError, ValueError, KeyError, BadZipFile):
                say(f"compare: no pictures: {names.SAMPLES} of run {entry.id} is damaged")
                continue
    return found


def _by_cost(entries: Sequence[EvaluatedRun], cost: Callable[[EvaluatedRun], float], unit: str, title: str) -> Figure:
    return figures.quality_by_cost(entries, leaderboard.pareto(entries, cost), cost, unit, title)
