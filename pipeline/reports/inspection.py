"""The HTML page about a folder of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.reports.rendering import TEMPLATES, render


def inspection_page(
    title: str, facts: Sequence[tuple[str, str]], faults: Sequence[str], command: str, pictures: Mapping[str, bytes]
) -> str:
    """The page, as HTML.

    Args:
        title: of the page.
        facts: what each is about, and what there is to say.
        faults: why the images cannot be prepared as they are.
        command: that trains on them.
        pictures: SVG files by their captions.
    """
    return render(
        TEMPLATES / "inspection.html", title=title, facts=facts, faults=faults, command=command, pictures=pictures
    )
