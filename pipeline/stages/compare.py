"""Compare runs that are done: tables in the terminal, and a page with figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError, counted
from pipeline.files import write_file
from pipeline.reports import leaderboard
from pipeline.reports.comparison import Section, comparison_page
from pipeline.reports.comparison_tables import board, dataset_of, importance, notes_on, records
from pipeline.reports.difference import difference
from pipeline.reports.leaderboard import EvaluatedRun, Kind
from pipeline.reports.tables import markdown_table, printed_table
from pipeline.stages.compare_figures import draw
from pipeline.stages.compare_times import timed
from pipeline.text import say, shown
from pipeline.tracking import names, opening, queries, store

if TYPE_CHECKING:
    from mlflow.entities import Run


def compare(ids: Sequence[str], query: str, output: Path, data_dir: str, time: bool = False) -> None:
    """Print a leaderboard of the runs, write a page with figures to `output`, and log it as a run.

    Args:
        ids: of runs; of a sweep or a comparison, its children. None: all runs of the experiment.
        query: MLflow's filter of the runs of the experiment; those that `ids` names are not filtered.
        output: a folder, made if it is not there.
        data_dir: where this process keeps what it needs meanwhile.
        time: measure how long the exported files take.

    Raises:
        PipelineError: a run does not exist, the query is wrong, or none of the runs can be compared.
    """
    groups = read_groups(ids, query, time)
    if len(groups) > 1:
        say(f"compare: {len(groups)} kinds of data and noise, which do not compare: a table for each")
    sections = [
        Section(_title(kinds), board(kinds), notes_on(kinds), *draw(kinds), leaderboard.worse_than_nothing(kinds))
        for kinds in groups
    ]
    tables = [
        "\n".join([shown(section.title), "", markdown_table(section.board), *section.notes]) for section in sections
    ]
    for section in sections:
        lines = printed_table(section.board, "--format csv prints all", importance(section.board[0]))
        say("", section.title, "", *lines, *section.notes)
    worse = [shown(line) for section in sections for line in section.worse]
    say(*worse)
    lines = _difference(ids, groups)
    say(*lines)

    page = output / names.COMPARISON_PAGE
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_file(page, comparison_page(sections, lines[2:]).encode())
    except OSError as error:
        raise PipelineError(f"cannot write {error.filename or output}: {error.strerror}") from error
    count = sum(len(kind.runs) for kinds in groups for kind in kinds)
    with opening.start_comparison(f"compare-{count}-runs", data_dir) as run:
        run.log_file(page, names.COMPARISON)
        run.describe("\n\n".join([*tables, *worse]))
    say(f"compare: {page}, and in run {run.id}")


def table(ids: Sequence[str] = (), query: str = "", time: bool = False) -> list[dict[str, Any]]:
    """The comparison as rows, one a run: `pipeline.reports.comparison_tables.records`. Arguments as of `compare`."""
    return records(read_groups(ids, query, time))


def print_table(ids: Sequence[str], query: str, form: str, time: bool = False) -> None:
    """Print these rows, and nothing else, to stdout: as "json", a list of objects, or as "csv"."""
    rows = [
        {key: shown(value) if isinstance(value, str) else value for key, value in row.items()}
        for row in table(ids, query, time)
    ]
    if form == "json":
        say(json.dumps(rows))
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    say(*text.getvalue().splitlines())


def read_groups(ids: Sequence[str], query: str, time: bool) -> list[list[Kind]]:
    """The runs that can be compared with each other; the arguments are those of `compare`."""
    entries = _entries(_named(ids) if ids else queries.find_runs(query), tell=bool(ids))
    if not entries:
        raise PipelineError("no finished and evaluated runs to compare")
    return leaderboard.grouped(timed(entries) if time else entries)


def _difference(ids: Sequence[str], groups: Sequence[Sequence[Kind]]) -> list[str]:
    """What changed from one run to the other, where there are two."""
    entries = [run for kinds in groups for kind in kinds for run in kind.runs]
    if len(ids) != 2 or len(entries) != 2:
        return []
    one, other = sorted(entries, key=lambda entry: list(ids).index(entry.id))
    changes = difference(one, other, _entries(queries.find_runs(""), tell=False))
    return ["", f"From {one.name} ({one.id[:8]}) to {other.name} ({other.id[:8]}):", *changes]


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
                say(f"compare: run {run.info.run_id} is left out: {error}", err=True)
    return entries


def _title(kinds: Sequence[Kind]) -> str:
    best, count = kinds[0].best, sum(len(kind.runs) for kind in kinds)
    return f"{counted(count, 'run')} on {dataset_of(best)} ({best.group[0][:8]}), {best.noise}"
