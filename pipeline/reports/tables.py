"""Markdown tables that are also readable in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.text import shown, terminal_width


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: the first to the left, the others to the right.

    `rows` have the same number of cells, with any text; the first row is the header.
    """
    rows = _cells(rows)
    widths = _widths(rows)
    lines = []
    for name, *cells in rows:
        aligned = [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))]
        lines.append(f"| {' | '.join(aligned)} |")
    rules = ["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]
    lines.insert(1, f"|{'|'.join(rules)}|")
    return "\n".join(lines) + "\n"


def printed_table(rows: Sequence[Sequence[str]], whole: str, important: Sequence[str] = ()) -> list[str]:
    """The lines of `markdown_table`, and on a terminal only as much of it as fits into its width.

    Then long cells are cut, columns that do not fit are left out, and a last line says so.

    Args:
        rows: as of `markdown_table`.
        whole: says where the whole table is.
        important: the heads of the columns to show first, the most important first. The others follow from left to
            right.
    """
    room, (head, *_) = terminal_width(), rows
    widths = _widths(_cells(rows))
    if room is None or _width_of(widths) <= room:
        return markdown_table(rows).splitlines()
    rows = [[_cut(shown(cell), 2 * room // 5) for cell in row] for row in rows]
    widths = _widths(_cells(rows))
    first = [head.index(name) for name in important if name in head]
    shown_columns: list[int] = []
    for column in dict.fromkeys([*first, *range(len(head))]):
        if _width_of([widths[number] for number in (*shown_columns, column)]) <= room:
            shown_columns.append(column)
    gone = [name for number, name in enumerate(head) if number not in shown_columns]
    what = f"left out: {', '.join(gone)}" if gone else "long cells are cut"
    table = markdown_table([[row[number] for number in sorted(shown_columns)] for row in rows])
    return [*table.splitlines(), f"To fit {room} characters, {what}; {whole}"]


def _cells(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[shown(cell).replace("|", r"\|") for cell in row] for row in rows]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]


def _width_of(widths: Sequence[int]) -> int:
    """Of a table with columns of these widths."""
    return sum(widths) + 3 * len(widths) + 1


def _cut(cell: str, length: int) -> str:
    return cell if len(cell) <= length else f"{cell[: length - 1]}…"
