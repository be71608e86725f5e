"""What the pages are made of: values are escaped in HTML only, and none may be forgotten."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest

from pipeline.reports.comparison import NOTE, Section, comparison_page
from pipeline.reports.rendering import TEMPLATES, render

HOSTILE = "<script>alert('a & b')</script>"
ESCAPED = "&lt;script&gt;alert(&#39;a &amp; b&#39;)&lt;/script&gt;"


@pytest.mark.parametrize(("name", "wanted"), [("page.html", ESCAPED), ("card.md", HOSTILE)])
def test_values_are_escaped_in_html_only(name: str, wanted: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{{ value }}\n")
    assert render(tmp_path / name, value=HOSTILE) == f"{wanted}\n"


def test_a_forgotten_value_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("{{ name }} of {{ run }}")
    with pytest.raises(jinja2.UndefinedError, match="'run' is undefined"):
        render(tmp_path / "card.md", name="x")


def test_a_template_elsewhere_is_built_from_the_same_parts(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        '{% extends "base.html" %}{% from "parts.html" import picture, table %}{% set title = "A < B" %}'
        '{% block content %}{{ table([["a", "b"], ["1", "2"]], "left") }}{{ picture("P & Q", png) }}{% endblock %}'
    )
    page = render(tmp_path / "page.html", png=b"\x89PNG")
    assert page.count("A &lt; B") == 2  # the title, and the heading
    assert "<tr><th>a</th><th>b</th></tr>\n<tr><td>1</td><td>2</td></tr>" in page
    assert '<img alt="P &amp; Q" src="data:image/png;base64,iVBORw==">' in page


def test_the_comparison_page() -> None:
    board = [["model", "PSNR"], [HOSTILE, "30.1*"]]
    plots = {"time": b"t", "psnr": b"p", "denoised": b"d"}
    page = comparison_page(
        [Section("3 runs on mnist", board, plots), Section("2 runs", board, {})], ["loss: mse -> l1"]
    )
    assert re.findall("<h2>(.*?)</h2>", page) == ["What changed", "3 runs on mnist", "2 runs"]
    assert "<li>loss: mse -&gt; l1</li>" in page
    # The plots in one order, whatever order they were drawn in, and only those that there are.
    captions = ["PSNR by noise level", "Quality by time", "The same images denoised by the best run of every model"]
    assert re.findall('alt="(.*?)"', page) == captions
    assert page.count(f"<td>{ESCAPED}</td>") == page.count(f"<p>{NOTE}</p>") == 2
    assert "What changed" not in comparison_page([Section("2 runs", board, {})], [])


def test_every_page_needs_nothing_but_itself() -> None:
    for template in TEMPLATES.glob("*.html"):
        assert not re.search(r"<script|@import|url\(|https?:", template.read_text()), template
