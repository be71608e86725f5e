"""The option `--sigma`, which gives `--variance` in the way that the field writes it."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from pipeline.noise import variance_of_sigma

_KEY = "pipeline.sigma"
# The later ones win: a default, a config file, what was typed.
_RANKS = {ParameterSource.DEFAULT: 0, ParameterSource.DEFAULT_MAP: 1}


def remember(context: click.Context, param: click.Parameter, value: Any) -> None:
    """Callback of `--sigma`, which is eager: keep its value for `--variance`."""
    given = [text for texts in value for text in texts] if isinstance(value, tuple) else [value]
    context.meta[_KEY] = [text for text in given if text], _rank(context, param)


def replace(context: click.Context, param: click.Parameter, value: Any) -> Any:
    """Callback of `--variance`: its value, or that of `--sigma` if that was given.

    Raises:
        click.UsageError: both were.
    """
    sigmas, rank = context.meta.get(_KEY, ([], 0))
    own = _rank(context, param)
    if not sigmas or own > rank:
        return value
    if own == rank:
        raise click.UsageError("--sigma and --variance both say how strong the noise is; leave one of them out")
    variances = [variance_of_sigma(text) for text in sigmas]
    return variances if isinstance(value, list) else variances[0]


def is_given(context: click.Context) -> bool:
    """Whether the command is told how strong the noise is, be it as its options have it by default."""
    return any(_rank(context, param) for param in context.command.params if param.name in ("sigma", "variance"))


def _rank(context: click.Context, param: click.Parameter) -> int:
    """Whether the value of an option is its default (0), from a config file (1), or typed (2)."""
    source = context.get_parameter_source(param.name or "")
    return _RANKS.get(source, 2) if source else 0
