"""The HTML page that compares runs: for each kind of data and noise a leaderboard and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.reports.comparison_tables import LAST
from pipeline.reports.image_rows import ImageRow
from pipeline.reports.rendering import TEMPLATES, render

_DIFFERS = "differs in"
_SUMMARY = "run", "input", "PSNR", "gain", "verdict"  # what is said of the best run of each kind
_CAPTIONS = {  # of the plots, which stand side by side
    "psnr": "PSNR by noise level: the best run of every model",
    "ssim": "SSIM by noise level: the best run of every model",
    "parameters": "PSNR by parameters; the line joins what nothing smaller beats",
    "multiply-adds": "PSNR by computation; the line joins what nothing cheaper beats",
    "time": "PSNR by time; the line joins what nothing faster beats",
    "curves": "Learning curves: PSNR on the validation images",
    "losses": "Learning curves: training loss, of runs with the loss of the best",
}


@dataclass(frozen=True)
class Section:
    """Runs that can be compared with each other, because they share their data and their noise."""

    title: str
    board: Sequence[Sequence[str]]  # rows of cells, the first one the head
    notes: Sequence[str]  # on the board
    plots: Mapping[str, str]  # SVG elements by name
    images: Sequence[ImageRow]
    worse: Sequence[str] = ()  # sentences about runs that are no better than doing nothing


def _with_few_columns(board: Sequence[Sequence[str]]) -> list[list[str]]:
    """The board with one column in place of those of the parameters that differ, which may be many.

    Where a cell breaks, it does so before the sign of the deviation.
    """
    texts = [[cell.replace("± ", "±\N{NO-BREAK SPACE}") for cell in row] for row in board]
    head, *rows = texts
    fixed = head.index(LAST) + 1
    if fixed == len(head):
        return texts
    last = [", ".join(f"{name} {value}" for name, value in zip(head[fixed:], row[fixed:], strict=True)) for row in rows]
    return [[*row[:fixed], text] for row, text in zip(texts, [_DIFFERS, *last], strict=True)]


def _best(sections: Sequence[Section]) -> list[list[str]]:
    """A row for the best run of each kind of data and noise; none if there is one kind, or a kind without a PSNR."""
    heads = [section.board[0] for section in sections]
    if len(sections) < 2 or not all("PSNR" in head for head in heads):
        return []
    columns = [name for name in _SUMMARY if all(name in head for head in heads)]
    rows = [
        [section.title, *(section.board[1][head.index(name)] for name in columns)]
        for section, head in zip(sections, heads, strict=True)
    ]
    return [["the best of", *columns], *rows]


def comparison_page(sections: Sequence[Section], differences: Sequence[str]) -> str:
    """The page, as HTML.

    Args:
        sections: shown one below the other.
        differences: what changed from one run to the other, where there are two; shown first.
    """
    return render(
        TEMPLATES / "comparison.html",
        sections=[replace(section, board=_with_few_columns(section.board)) for section in sections],
        differences=differences,
        best=_best(sections),
        captions=_CAPTIONS,
    )
