"""Figures as SVG: sharp at any size, and in the colours of the page that they are on."""

from __future__ import annotations

import io
import re

from matplotlib import rc_context
from matplotlib.figure import Figure

# An image in a page does not inherit the colours of that page; it is told whether they are light or dark.
_STYLE = (
    "<style>svg { color: #000; font-family: system-ui, sans-serif } "
    "@media (prefers-color-scheme: dark) { svg { color: #fff } } text { fill: currentColor }</style>"
)


def as_element(figure: Figure) -> str:
    """The figure as an element of an HTML page, whose colour and font its text and lines take."""
    return re.sub(r' xmlns(:\w+)?="[^"]*"| (?:width|height)="[\d.]+pt"', "", _drawn(figure))


def as_file(figure: Figure) -> bytes:
    """The figure as an SVG file, which chooses colours for a light or a dark page by itself.

    The same figure is the same file. Elsewhere the names of its parts, which are hashes, have a salt of chance, so that
    those of two figures on one page differ.
    """
    return re.sub(r"(<svg[^>]*>)", rf"\1{_STYLE}", _drawn(figure, salt="file"), count=1).encode()


def _drawn(figure: Figure, salt: str | None = None) -> str:
    # Images stay as they are: putting all of an axes into one, at 200 dpi, takes a second.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "image.composite_image": False}):
        content = io.StringIO()
        figure.savefig(content, format="svg", transparent=True, dpi=200, metadata={"Date": None})
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' id="(?:figure|axes|patch|line2d|text|legend|matplotlib\.axis|xtick|ytick|[A-Z]\w+)_\d+"', "", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    return re.sub(r"(stroke|fill): #000000", r"\1: currentColor", text)
