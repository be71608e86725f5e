"""The HTML page that compares runs: for each kind of data and noise a leaderboard and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.reports.leaderboard import LAST
from pipeline.reports.rendering import TEMPLATES, render

_CAPTIONS = {  # of the plots, which stand side by side
    "psnr": "PSNR by noise level",
    "ssim": "SSIM by noise level",
    "parameters": "Quality by parameters",
    "time": "Quality by time",
    "curves": "Training loss, of runs with the loss of the best",
}


@dataclass(frozen=True)
class Section:
    """Runs that can be compared with each other, because they share their data and their noise."""

    title: str
    board: Sequence[Sequence[str]]  # rows of cells, the first one the head
    note: str  # on the board; "" for nothing
    pictures: Mapping[str, bytes]  # PNG files by name: plots, and "denoised"
    worse: Sequence[str] = ()  # sentences about runs that are no better than doing nothing


def _with_few_columns(board: Sequence[Sequence[str]]) -> list[list[str]]:
    """The board with one column in place of those of the parameters that differ, which may be many."""
    head, *rows = board
    fixed = head.index(LAST) + 1
    if fixed == len(head):
        return [list(row) for row in board]
    texts = [
        ", ".join(f"{name} {value}" for name, value in zip(head[fixed:], row[fixed:], strict=True)) for row in rows
    ]
    return [[*row[:fixed], text] for row, text in zip(board, ["differs in", *texts], strict=True)]


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
