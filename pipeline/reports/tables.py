"""Markdown tables that are also readable in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.text import shown


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: the first to the left, the others to the right.

    `rows` have the same number of cells, with any text; the first row is the header.
    """
    rows = [[shown(cell).replace("|", r"\|") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for name, *cells in rows:
        aligned = [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))]
        lines.append(f"| {' | '.join(aligned)} |")
    rules = ["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]
    lines.insert(1, f"|{'|'.join(rules)}|")
    return "\n".join(lines) + "\n"
