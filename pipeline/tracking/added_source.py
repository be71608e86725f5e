"""The source of what other packages add to the pipeline: which files a change may be in."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import PipelineError

_INSTALLED = ("site-packages", "dist-packages")  # folders of modules that have nothing to do with each other


def sources(modules: Iterable[str]) -> dict[str, Path]:
    """The Python files that take part in modules, by their paths below the folder in which Python finds these.

    Of a package, these are all files. Of a module that is a file by itself, also those beside it that it imports.

    Args:
        modules: the names of modules that may be imported.

    Raises:
        PipelineError: one has no Python source, so that a change of it could not be noticed.
    """
    found: dict[str, Path] = {}
    for name in modules:
        found |= _of_module(name)
    return found


def _of_module(name: str) -> dict[str, Path]:
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        outer = ".".join(parts[:count])
        spec = find_spec(outer)
        origin = Path(spec.origin) if spec and spec.origin else None
        if origin and origin.name == "__init__.py":
            return _of_package(outer.replace(".", "/"), origin.parent)
    if origin is None or origin.suffix != ".py":
        raise PipelineError(f"{name} has no Python source, so that a change of it could not be noticed")
    found: dict[str, Path] = {}
    waiting = [(name.replace(".", "/"), origin)]
    while waiting:
        shown, path = waiting.pop()
        if f"{shown}.py" not in found and path.is_file():
            found[f"{shown}.py"] = path
            if path.parent.name not in _INSTALLED:
                beside = shown.rpartition("/")[0]
                for other in _imported(path):
                    shown_other = f"{beside}/{other}" if beside else other
                    waiting.append((shown_other, path.with_name(f"{other}.py")))
                    found |= _of_package(shown_other, path.with_name(other))
    return found


def _of_package(shown: str, folder: Path) -> dict[str, Path]:
    """The files of a package, if there is one in that folder."""
    if not (folder / "__init__.py").is_file():
        return {}
    return {f"{shown}/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*.py")}


def _imported(path: Path) -> Iterator[str]:
    """The outermost names of the modules that a file imports, other than those of the pipeline."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
        yield from {name.partition(".")[0] for name in names} - {"pipeline"}
