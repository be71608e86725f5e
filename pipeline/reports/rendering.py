"""HTML pages and Markdown texts from template files. The pages need nothing but themselves: no script, no network."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.text import shown

TEMPLATES = Path(__file__).parent / "templates"  # what every HTML page is built from


def render(template: Path, **values: Any) -> str:
    """The text that a template makes of `values`.

    Args:
        template: a file; it may extend and import the templates that lie beside it, or in `TEMPLATES`. Where its name
            ends in `.html`, values are escaped; where it ends in `.md`, each is one line.
        values: the variables that the template names.

    Raises:
        jinja2.UndefinedError: the template names a variable that `values` lacks.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=lambda name: name is None or name.endswith(".html"),
        finalize=_in_markdown if template.suffix == ".md" else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["data_url"] = _data_url
    return environment.get_template(template.name).render(values)


def _in_markdown(value: Any) -> Any:
    return shown(value) if isinstance(value, str) else value


def _data_url(image: bytes) -> str:
    """A PNG or SVG file as text that an HTML page can hold; as an image, SVG runs no scripts."""
    kind = "svg+xml" if image.startswith(b"<svg") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
