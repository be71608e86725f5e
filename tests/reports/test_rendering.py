"""What the pages are made of: values are escaped in HTML only, and none may be forgotten."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
from conftest import wait_for

from pipeline.reports.comparison import Section, comparison_page
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
    board = [["", "model", "run id", "loss", "lr"], ["1 *", HOSTILE, "ab12", "mse", "0.01"]]
    plots = {"time": "<svg>t</svg>", "psnr": "<svg>p</svg>"}
    first = Section("3 runs on mnist", board, ["* a note"], plots, [(HOSTILE, [(b"\x89PNG", "31.2")])])
    second = Section("2 runs", board, [], {}, [])
    page = comparison_page([first, second], ["loss: mse -> l1"])
    assert re.findall("<h2>(.*?)</h2>", page) == ["What changed", "3 runs on mnist", "2 runs"]
    assert "<li>loss: mse -&gt; l1</li>" in page
    # The plots in one order, whatever order they were drawn in, and only those that there are.
    assert re.findall("</figcaption><svg>(.)</svg>", page) == ["p", "t"]
    assert f'<th>{ESCAPED}</th><td><img alt="{ESCAPED}" src="data:image/png;base64,iVBORw==">31.2</td>' in page
    assert page.count(f">{ESCAPED}</td>") == 2
    assert page.count("<p>* a note</p>") == 1
    assert "What changed" not in comparison_page([second], [])
    # Few columns, however many parameters differ; on a phone, each cell says what it is.
    assert page.count("<th>run id</th></tr>") == 2
    assert page.count('data-head="differs in">loss mse, lr 0.01</td></tr>') == 2
    assert page.count('<td data-head="run id">ab12</td>') == 2


def test_several_kinds_begin_with_the_best_of_each() -> None:
    head = ["", "run", "input", "PSNR", "gain", "run id"]
    rows = [["1", f"run{number}", "22.70", f"{number}.10", "+7.50", "ab"] for number in (1, 2)]
    others = ["2", "other", "", "", "", ""]
    sections = [Section(f"noise {number}", [head, row, others], [], {}, []) for number, row in enumerate(rows)]
    page = comparison_page(sections, [])
    first = page.partition("<h2>noise 0</h2>")[0]
    assert re.findall("<td data-head.*?>(.*?)</td>", first) == [
        *("noise 0", "run1", "22.70", "1.10", "+7.50"),
        *("noise 1", "run2", "22.70", "2.10", "+7.50"),
    ]
    assert "The best of each" not in comparison_page(sections[:1], [])


@pytest.mark.parametrize("width", [1280, 390])
def test_no_column_of_a_comparison_is_cut_off(width: int, tmp_path: Path, browser: Any) -> None:
    psnrs = [f"PSNR at {level}" for level in (0.001, 0.1)]
    head = ["", "run", "model", "seed", "input", "PSNR", "gain", "SSIM", "verdict", *psnrs, "parameters"]
    head += ["multiply-adds per pixel", "ms/image", "training", "run id"]
    row = ["1 *", "autoencoder-var0.01-seed0", "autoencoder", "0, 1, 2", "22.70", *2 * ["30.12 ± 0.12"]]
    row += ["0.9123 ± 0.0012", "better than its input", *2 * ["30.12 ± 0.12"], "1,370,000", "123,456", "0.123 ± 0.012"]
    row += ["12 s", "ab12cd34"]
    names = ["noise", "variance", "epochs", "batch_size", "optimizer"]
    board = [[*head, *names], [*row, "poisson-gaussian:shot=0.001,read=0.0005", "0.01", "30", "128", "soap"]]
    (tmp_path / "page.html").write_text(comparison_page([Section("1 run", board, [], {}, [])], []))
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(f"file://{tmp_path / 'page.html'}")
    wait_for(browser, "document.querySelector('.wide').scrollWidth <= document.querySelector('.wide').clientWidth")
    assert browser.execute_script("return document.documentElement.scrollWidth") == width


def test_every_page_needs_nothing_but_itself() -> None:
    for template in TEMPLATES.glob("*.html"):
        assert not re.search(r"<script|@import|url\(|https?:", template.read_text()), template
