"""A choice with options as text, `NAME[:key=value,…]`: the form of `--noise` and `--model`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pipeline.errors import PipelineError


def split_spec(text: str, what: str) -> tuple[str, dict[str, str]]:
    """The name and the options of `NAME[:key=value,…]`.

    Args:
        text: as it was given.
        what: the option of the command line, for messages.

    Raises:
        PipelineError: an option has no value, or is given twice.
    """
    name, _, rest = text.partition(":")
    options: dict[str, str] = {}
    for item in rest.split(",") if rest else []:
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (key and equals and value):
            raise PipelineError(f"{what} '{text}': '{item}' is not of the form key=value")
        if key in options:
            raise PipelineError(f"{what} '{text}': '{key}' is given twice")
        options[key] = value
    return name.strip(), options


def unknown(what: str, name: str, known: Iterable[str]) -> PipelineError:
    """The error for a name that is not among `known`: it lists those, and suggests the nearest.

    Args:
        what: the option of the command line that has the name.
        name: as it was given.
        known: the names that are allowed.
    """
    known = list(known)
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    allowed = ", ".join(known) if known else "none"
    return PipelineError(f"{what}: '{name}' is not known; allowed: {allowed}{hint}")
