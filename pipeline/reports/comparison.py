"""The HTML page that compares runs: for each kind of data and noise a leaderboard and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.reports.comparison_tables import LAST
from pipeline.reports.image_rows import ImageRow
from pipeline.reports.rendering import TEMPLATES, render

_DIFFERS = "differs in"
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
        captions=_CAPTIONS,
    )
