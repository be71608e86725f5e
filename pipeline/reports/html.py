"""Pages that need nothing but themselves: no script, no network."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 84rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #8886; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, .left th, .left td, .board :is(th, td):nth-child(-n+3) { text-align: left; }
img { max-width: 100%; height: auto; border-radius: 4px; background: white; }
pre { overflow-x: auto; padding: .8rem; border-radius: 4px; background: #8882; }
figure { margin: 1.5rem 0; }
figcaption, p { max-width: 60rem; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 32rem), 1fr)); column-gap: 2rem; }
code { overflow-wrap: anywhere; }
"""


def document(title: str, parts: Sequence[str]) -> str:
    """A page of parts that are HTML already."""
    head = (
        f"<title>{text(title)}</title><meta charset=utf-8>"
        f"<meta name=viewport content='width=device-width, initial-scale=1'><style>{_STYLE}</style>"
    )
    return (
        f"<!doctype html>\n<html lang=en>{head}<body>\n<h1>{text(title)}</h1>\n{chr(10).join(parts)}\n</body></html>\n"
    )


def text(content: str) -> str:
    return html.escape(content, quote=True)


def heading(content: str) -> str:
    return f"<h2>{text(content)}</h2>"


def paragraph(content: str) -> str:
    return f"<p>{text(content)}</p>"


def items(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>"


def code(content: str) -> str:
    return f"<pre><code>{text(content)}</code></pre>"


def table(rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """Rows of as many cells each, the first the head.

    Set to the left is the first column; of the kind "board" the first three; of the kind "left" all.
    """
    lines = []
    for tag, row in zip(["th", *["td"] * (len(rows) - 1)], rows, strict=True):
        lines.append("<tr>" + "".join(f"<{tag}>{text(cell)}</{tag}>" for cell in row) + "</tr>")
    return f"<div class='wide {kind}'><table>{''.join(lines)}</table></div>"


def beside(parts: Sequence[str]) -> str:
    """Parts side by side where the page is wide enough, otherwise below each other."""
    return f"<div class=beside>{''.join(parts)}</div>"


def picture(caption: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    return (
        f"<figure><figcaption>{text(caption)}</figcaption>"
        f"<img alt='{text(caption)}' src='data:image/png;base64,{data}'></figure>"
    )
