"""Compare runs that are done: tables in the terminal, and a page with figures."""

from __future__ import annotations

import base64
import html
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline import figures, leaderboard, store, tracking
from pipeline.errors import PipelineError
from pipeline.files import write_file
from pipeline.leaderboard import LEVELS, Entry
from pipeline.stages.compare import markdown_table

if TYPE_CHECKING:
    from mlflow.entities import Run

_SHOWN = 6  # runs whose curves and pictures are shown
PAGE = "comparison.html"
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #8886; text-align: right; white-space: nowrap; }
th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left; }
img { max-width: 100%; background: white; }
"""


def compare_runs(ids: Sequence[str], query: str, output: Path, data_dir: str) -> None:
    """Print a leaderboard of the runs, write `PAGE` and its figures to `output`, and log them as a run.

    Args:
        ids: of runs; of a sweep or a comparison, its children. None: all runs of the experiment.
        query: MLflow's filter of the runs of the experiment; those that `ids` names are not filtered.
        output: a folder, made if it is not there.
        data_dir: where this process keeps what it needs meanwhile.

    Raises:
        PipelineError: a run does not exist, the query is wrong, or none of the runs can be compared.
    """
    runs = _named(ids) if ids else store.find_runs(query)
    entries = _entries(runs, tell=bool(ids))
    if not entries:
        raise PipelineError("no finished and evaluated runs to compare")
    groups = leaderboard.grouped(entries)
    if len(groups) > 1:
        click.echo(f"compare: {len(groups)} kinds of data and noise, which do not compare: a table for each")
    tables = [f"{_title(group)}\n\n{markdown_table(leaderboard.leaderboard(group))}" for group in groups]
    click.echo("\n" + "\n".join(tables), nl=False)
    click.echo("* no run with as few parameters is better")

    lines: list[str] = []
    if len(ids) == 2 and len(entries) == 2:
        one, other = sorted(entries, key=lambda entry: list(ids).index(entry.id))
        lines = leaderboard.difference(one, other, _entries(store.find_runs(""), tell=False))
        click.echo("\n".join([f"\nFrom {one.name} ({one.id[:8]}) to {other.name} ({other.id[:8]}):", *lines]))

    try:
        output.mkdir(parents=True, exist_ok=True)
        pictures = {f"{name}{number}.png": png for number, group in enumerate(groups, 1) for name, png in _draw(group)}
        for name, content in pictures.items():
            write_file(output / name, content)
        page = _page(groups, pictures, lines)
        write_file(output / PAGE, page.encode())
    except OSError as error:
        raise PipelineError(f"cannot write {error.filename or output}: {error.strerror}") from error
    with tracking.start_comparison(f"compare-{len(entries)}-runs", data_dir) as run:
        run.log_folder(output, "comparison")
        run.describe(
            "\n\n".join(f"{_title(group)}\n\n{markdown_table(leaderboard.leaderboard(group))}" for group in groups)
        )
    click.echo(f"compare: {output / PAGE}, and in run {run.id}")


def _named(ids: Sequence[str]) -> list[Run]:
    client = store.connect()
    runs = []
    for run_id in ids:
        run = store.ask(f"run {run_id}", lambda run_id=run_id: client.get_run(run_id))  # type: ignore[misc]
        children = store.find_runs(f"tags.`mlflow.parentRunId` = '{run_id}'")
        runs += children or [run]
    return runs


def _entries(runs: Sequence[Run], tell: bool) -> list[Entry]:
    entries = []
    for run in runs:
        try:
            entries.append(leaderboard.read_entry(run))
        except PipelineError as error:
            if tell:
                click.echo(f"compare: run {run.info.run_id} is left out: it {error}")
    return entries


def _title(group: Sequence[Entry]) -> str:
    dataset, digest = Path(group[0].tags["dataset"]).name, group[0].group[0][:8]
    count = f"{len(group)} run{'s' if len(group) > 1 else ''}"
    return f"{count} on {dataset} ({digest}), {group[0].noise}"


def _draw(group: Sequence[Entry]) -> list[tuple[str, bytes]]:
    best: dict[str, Entry] = {}
    for entry in group:  # the best is the first
        best.setdefault(entry.model, entry)
    shown = dict(list(best.items())[:_SHOWN])
    variances = [float(level) for level in LEVELS]
    lines = {name: [entry.levels[level] for level in LEVELS] for name, entry in shown.items()}
    drawn = [
        ("psnr", figures.psnr_comparison(variances, lines, "Gaussian noise; the best run of every model")),
        ("pareto", figures.quality_by_parameters(group, leaderboard.pareto(group))),
    ]
    client = store.connect()
    curves = {}
    for entry in group[:_SHOWN]:
        if points := client.get_metric_history(entry.id, "train/loss"):
            curves[f"{entry.name} ({entry.id[:4]})"] = [(point.step, point.value) for point in points]
    drawn.append(("curves", figures.learning_curves(curves)))
    pictures = []
    for name, figure in drawn:
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=110)
        pictures.append((name, content.getvalue()))
    with tempfile.TemporaryDirectory() as folder:
        for place, entry in enumerate(group[:_SHOWN], 1):
            try:
                picture = store.download(entry.id, "figures/denoised.png", folder).read_bytes()
            except PipelineError:  # deleted: the rest is worth showing
                continue
            pictures.append((f"denoised-{place}-", picture))
    return pictures


def _page(groups: Sequence[Sequence[Entry]], pictures: dict[str, bytes], lines: Sequence[str]) -> str:
    parts = ["<h1>Comparison of denoising runs</h1>"]
    if lines:
        parts += ["<h2>What changed</h2><ul>", *(f"<li>{html.escape(line)}</li>" for line in lines), "</ul>"]
    captions = {"psnr": "PSNR by noise level", "pareto": "Quality by parameters", "curves": "Training loss"}
    for number, group in enumerate(groups, 1):
        parts.append(f"<h2>{html.escape(_title(group))}</h2>{_html_table(leaderboard.leaderboard(group))}")
        parts.append("<p>* no run with as few parameters is better</p>")
        for name, caption in captions.items():
            parts.append(_picture(caption, pictures[f"{name}{number}.png"]))
        for place, entry in enumerate(group[:_SHOWN], 1):
            if content := pictures.get(f"denoised-{place}-{number}.png"):
                parts.append(_picture(f"{place}. {entry.name} ({entry.id[:8]})", content))
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><style>{_STYLE}</style>"
    return f"<!doctype html><html lang=en><title>Comparison</title>{head}<body>{''.join(parts)}</body></html>\n"


def _html_table(rows: Sequence[Sequence[str]]) -> str:
    lines = [
        "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
        for tag, row in zip(["th", *["td"] * (len(rows) - 1)], rows, strict=True)
    ]
    return f"<div class=wide><table>{''.join(lines)}</table></div>"


def _picture(caption: str, content: bytes) -> str:
    data = base64.b64encode(content).decode()
    text = html.escape(caption, quote=True)
    return f"<h3>{text}</h3><img alt='{text}' src='data:image/png;base64,{data}'>"
