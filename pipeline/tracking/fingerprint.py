"""What the result of a stage depends on: as long as that is the same, the result need not be computed again."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from pipeline.files import sha256_file
from pipeline.tracking.added_source import sources

_PACKAGE = Path(__file__).parents[1]
_MOST_CHANGES = 8  # named; after a new version of the pipeline there are dozens
_MODULE = re.compile(rf"{_PACKAGE.name}(\.\w+)*")

Fingerprint = Mapping[str, str]
"""Every input of a stage by name, as text or as its SHA-256."""


def fingerprint(
    module: str,
    *,
    packages: Iterable[str],
    ignore: Iterable[str] = (),
    files: Iterable[Path] = (),
    added: Iterable[str] = (),
    **inputs: object,
) -> Fingerprint:
    """The fingerprint of a stage.

    Args:
        module: the module of the stage, such as `pipeline.stages.train`; with it count all modules of the package that
            it imports.
        packages: names of the distributions whose version matters, too.
        ignore: modules of the package that have no part in this result.
        files: other files of the package that are read.
        added: modules of other packages that take part, see `pipeline.plugins`.
        inputs: digests of data, and the options that matter. Those that are None do not count.

    Raises:
        ModuleNotFoundError: `module`, or one of `ignore`, is not in the package.
    """
    return {
        **{name: str(value) for name, value in sorted(inputs.items()) if value is not None},
        **{name: version(name) for name in packages},
        **{_shown(path): _source(path).digest for path in sorted(_closure(module, frozenset(ignore)))},
        **{_shown(path): sha256_file(path) for path in sorted(files)},
        **{shown: _source(path).digest for shown, path in sorted(sources(added).items())},
    }


def digest(parts: Fingerprint) -> str:
    """SHA-256 of a fingerprint, as 64 hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def describe_changes(now: Fingerprint, before: Fingerprint) -> str:
    """The differences, such as `lr 0.01 (was 0.02), pipeline/training/loop.py`."""
    changes = []
    # What was read may be damaged.
    before = {name: str(value) for name, value in before.items()} if isinstance(before, Mapping) else {}
    for name in [*now, *(name for name in before if name not in now)]:
        value, former = now.get(name), before.get(name)
        if value == former:
            continue
        if name.endswith(".py") or "/" in name:
            changes.append(name)
        elif value is None or former is None:
            changes.append(f"{name} {'gone' if value is None else 'new'}")
        elif len(value) == 64:  # a digest
            changes.append(name)
        else:
            changes.append(f"{name} {value} (was {former})")
    more = [f"and {len(changes) - _MOST_CHANGES} more"] if len(changes) > _MOST_CHANGES else []
    return ", ".join([*changes[:_MOST_CHANGES], *more])


def _shown(path: Path) -> str:
    return path.relative_to(_PACKAGE.parent).as_posix()


@cache
def _closure(module: str, ignore: frozenset[str]) -> frozenset[Path]:
    """The files of `module` and of all modules of the package that it imports, directly or indirectly."""
    for name in (module, *ignore):
        if _file(name) is None:
            raise ModuleNotFoundError(f"{name} is not a module of {_PACKAGE}", name=name)
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = None if name in ignore else _file(name)
        if path is not None and path not in found:
            found.add(path)
            waiting.extend(_source(path).imports)
    return frozenset(found)


def _file(module: str) -> Path | None:
    path = _PACKAGE.parent.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@dataclass(frozen=True)
class _Source:
    """What counts of a file.

    Attributes:
        imports: the names of modules of the package in it: those it imports, anywhere, and those in a text.
        digest: SHA-256 of what it does: comments, docstrings and layout do not count.
    """

    imports: frozenset[str]
    digest: str


@cache
def _source(path: Path) -> _Source:
    tree = ast.parse(path.read_text())
    imports = frozenset(_imports(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body.pop(0)
    return _Source(imports, hashlib.sha256(ast.dump(tree).encode()).hexdigest())


def _imports(tree: ast.AST) -> Iterator[str]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        names: Iterable[str] = ()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value.partition(":")[0]]  # for `import_module`
        yield from (name for name in names if _MODULE.fullmatch(name))
        waiting.extend(ast.iter_child_nodes(node))
