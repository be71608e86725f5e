"""What a value on the command line may be: click types whose errors say what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pipeline.config import AUTO, Interval
from pipeline.data.sources import DATASETS, describe_unknown, is_dataset
from pipeline.errors import PipelineError
from pipeline.models import parse_model, path_of
from pipeline.plugins import allow, split_path
from pipeline.spec import unknown
from pipeline.tracking.names import is_taken
from pipeline.trials.space import Bounds

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Number(click.ParamType):
    """A finite number from `low`, which may be excluded, to `high`."""

    def __init__(self, kind: type[int] | type[float], low: float, high: float, low_allowed: bool = True) -> None:
        self.allowed = Interval(kind, low, high, low_allowed)
        self.name = "integer" if kind is int else "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = self.allowed.kind(value)
        except ValueError:
            number = math.nan
        if not self.allowed.admit(number):
            self.fail(f"'{value}' is not {self.allowed}", param, ctx)
        return number


class AutoNumber(Number):
    """A `Number`, or "auto"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return AUTO if value == AUTO else super().convert(value, param, ctx)


class Switch(click.types.BoolParamType):
    """True or false, which `mlflow run` can pass, as it cannot leave a flag out."""

    name = "true or false"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        if value == "":  # click takes it for false
            self.fail("'' is neither true nor false", param, ctx)
        try:
            return bool(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"'{value}' is neither true nor false", param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "[true|false]"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _beginning(incomplete, ("true", "false"))


class Values(click.ParamType):
    """One or more values of another type, separated by semicolons: a tuple."""

    def __init__(self, kind: click.ParamType) -> None:
        self.kind, self.name = kind, f"{kind.name};…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):  # converted already
            return value
        parts = value.split(";") if isinstance(value, str) else [value]
        texts = [part.strip() if isinstance(part, str) else part for part in parts]
        return tuple(self.convert_one(text, param, ctx) for text in texts)

    def convert_one(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if self.is_pair(value):
            self.fail(f"'{value}' is an interval, which only the command search takes; give values", param, ctx)
        return self.kind.convert(value, param, ctx)

    def is_pair(self, value: Any) -> bool:
        """Whether it has the form LOW:HIGH where a number is wanted."""
        return isinstance(self.kind, Number) and isinstance(value, str) and ":" in value

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"{self.kind.get_metavar(param, ctx) or self.kind.name.upper()};…"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return self.kind.shell_complete(ctx, param, incomplete)


class SearchValues(Values):
    """`Values`, or of numbers an interval LOW:HIGH to search in: a tuple of values and `Bounds`."""

    def convert_one(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not self.is_pair(value):
            return self.kind.convert(value, param, ctx)
        low, high = (self.kind.convert(part, param, ctx) for part in value.split(":", 1))
        if AUTO in (low, high) or low >= high:
            self.fail(f"'{value}' is not LOW:HIGH, two numbers with the lower one first", param, ctx)
        return Bounds(low, high)


class Spec(click.ParamType):
    """A text that `parse` accepts: it raises a `PipelineError` that says what is allowed."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name, self.parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            self.parse(value)
        except PipelineError as error:
            name = param.opts[0] if param else ""
            self.fail(str(error).removeprefix(f"{name}: "), param, ctx)  # click says the name
        return value


class ModelSpec(Spec):
    """What `parse_model` accepts. A class that is named on the command line may be imported; in a config file, not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if param and ctx and ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE:
            allow(path_of(value))
        return super().convert(value, param, ctx)


class ClassPath(click.ParamType):
    """The path of a class, `package.module:Class`, which the user trusts."""

    name = "module:class"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value and split_path(value) != (value, ""):
            self.fail(f"'{value}' is not of the form package.module:Class", param, ctx)
        allow(value)
        return value


class AutoSpec(Spec):
    """A `Spec`, or "auto"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return AUTO if value == AUTO else super().convert(value, param, ctx)


class Dataset(click.ParamType):
    """A name in `DATASETS`, or an existing folder."""

    name = "name or folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "" == getattr(param, "default", None):
            return ""
        if not is_dataset(value):
            self.fail(describe_unknown(value), param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _beginning(incomplete, DATASETS) or click.Path(file_okay=False).shell_complete(ctx, param, incomplete)


class Pattern(click.ParamType):
    """A text that must match, if it is not empty."""

    def __init__(self, name: str, pattern: str, allowed: str) -> None:
        self.name, self.pattern, self.allowed = name, pattern, allowed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value and not re.fullmatch(self.pattern, value):
            self.fail(f"'{value}' is not {self.allowed}", param, ctx)
        return value


def _beginning(incomplete: str, words: Iterable[str]) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem  # only the shell asks for it

    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def parse_variants(text: str) -> list[str]:
    """The names in `NAME,NAME,…`.

    Raises:
        PipelineError: one of them is not known.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names:
        from pipeline.handoff.variants import known_variants  # imports torch

        return known_variants(names)
    return []


def _parse_runtime(text: str) -> str:
    from pipeline.verification.runtimes import RUNTIMES  # imports onnx

    if text not in (*RUNTIMES, "all"):
        raise unknown("--runtime", text, (*RUNTIMES, "all"))
    return text


def _recordable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PipelineError(f"'{text.encode(errors='backslashreplace').decode()}' is not valid text") from error


class Tags(click.ParamType):
    """Tags for a run as KEY=VALUE, several separated by semicolons: a tuple of pairs."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):  # converted already
            return value
        return tuple(self._pair(text.strip(), param, ctx) for text in value.split(";") if text.strip())

    def _pair(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        key, equals, value = text.partition("=")
        if not equals or not re.fullmatch(r"[\w][\w. /-]*", key):
            self.fail(
                f"'{text}' is not a tag as KEY=VALUE; keys are made of letters, digits, '_', '.', '-', '/'", param, ctx
            )
        if is_taken(key):
            self.fail(f"'{key}' is a name that this program or MLflow uses; choose another key", param, ctx)
        return key, value


RECORDABLE = Spec("text", _recordable)
NAME = Pattern("name", r"[A-Za-z0-9][A-Za-z0-9._-]*", "made of letters, digits, '.', '_' and '-' only")
RUN_ID = Pattern("id", r"[0-9a-f]{32}", "the ID of an MLflow run: 32 digits and letters a to f")
RESUMED = Pattern("id", r"[0-9a-f]{32}|true", "the ID of an MLflow run: 32 digits and letters a to f, or true")
PROTOCOL = Pattern("protocol", "awgn", "a protocol; there is one: awgn")
SIZE = Pattern("size", "[a-z]+", "a size: s, m or l")
MODEL = ModelSpec("spec", parse_model)
VARIANTS = Spec("names", parse_variants)
RUNTIME = Spec("name", _parse_runtime)
