"""What others add without a fork: members of the tables, from installed packages, and classes that the user names.

An installed package adds a member by an entry point in one of the groups `denoise_pipeline.models`, `.noises`,
`.metrics` and `.sources`. Its name is known without an import; its module is imported when the member is looked up.

A class that no package has registered is named by its path, `package.module:Class`. That is a program to be run, and
texts such as the config of a run may be anybody's: only a path that the user gave to this process is imported, see
`allow`.
"""

from __future__ import annotations

import re
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import ArgumentError, PipelineError, one_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Member = TypeVar("Member")

_NAME = re.compile(r"[a-z][a-z0-9-]*")  # it becomes part of the names of files, tags and metrics
_PATH = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*)(?::(.*))?", re.ASCII | re.DOTALL)
_allowed: set[str] = set()  # paths of classes


class Table(UserDict[str, Member]):
    """The members of a kind by name: the pipeline's own, and those that installed packages add.

    Args:
        kind: in singular, such as "model".
        own: of the pipeline.
        read: makes a member of what an entry point leads to, or raises a `PipelineError` that says what it must be.
        reserved: other names that are taken.
    """

    def __init__(
        self,
        kind: str,
        own: Mapping[str, Member],
        read: Callable[[str, object], Member],
        reserved: tuple[str, ...] = (),
    ) -> None:
        super().__init__(own)
        self.own = tuple(own)
        self._kind, self._read, self._reserved = kind, read, reserved
        self._loaded: dict[str, Member] = {}

    @property
    def registered(self) -> tuple[str, ...]:
        """The names that installed packages want to add, in order, the impossible ones, too."""
        return tuple(self._entries())

    @property
    def added(self) -> tuple[str, ...]:
        """The names that installed packages add, in order."""
        return tuple(name for name in self._entries() if name not in self.data)

    def __contains__(self, name: object) -> bool:
        return name in self.data or name in self._entries()

    def __iter__(self) -> Iterator[str]:
        yield from self.data
        yield from self.added

    def __len__(self) -> int:
        return len(self.data) + len(self.added)

    def __getitem__(self, name: str) -> Member:
        """The member of this name.

        Raises:
            KeyError: there is none.
            PipelineError: the package that adds it is broken, or it is not the only one with this name.
        """
        if name in self._loaded:
            return self._loaded[name]
        entries = self._entries().get(name)
        if not entries:
            return self.data[name]
        self._check_name(name, entries)
        self._loaded[name] = self._load(name, entries[0])
        return self._loaded[name]

    def modules(self, names: Iterable[str]) -> list[str]:
        """The modules that entry points lead to, of those among the names that packages add."""
        entries = self._entries()
        return [entries[name][0].module for name in names if name in entries]

    def _entries(self) -> dict[str, list[EntryPoint]]:
        return _entries_of(f"denoise_pipeline.{self._kind}s")

    def _check_name(self, name: str, entries: list[EntryPoint]) -> None:
        packages = " and ".join(_package(entry) for entry in entries)
        if name in self.own or name in self._reserved or len(entries) > 1:
            others = "" if len(entries) > 1 else ", and the pipeline has one of that name"
            verb = "add" if len(entries) > 1 else "adds"
            raise PipelineError(f"{packages} {verb} the {self._kind} '{name}'{others}; rename or uninstall one of them")
        if not _NAME.fullmatch(name):
            raise PipelineError(
                f"{packages} adds the {self._kind} '{name}', whose name is not made of small letters, digits and '-'"
            )

    def _load(self, name: str, entry: EntryPoint) -> Member:
        what = f"the {self._kind} '{name}' of {_package(entry)} ({entry.value})"
        found = import_path(entry.value, what)
        try:
            return self._read(name, found)
        except PipelineError as error:
            raise PipelineError(f"{what}: {error}") from error


@cache
def _entries_of(group: str) -> dict[str, list[EntryPoint]]:
    """The entry points of a group by name, in order."""
    from importlib.metadata import entry_points  # takes as long as all other imports of the command line

    found: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, _package(entry))):
        found.setdefault(entry.name, []).append(entry)
    return found


def _package(entry: EntryPoint) -> str:
    """In words."""
    return f"the package {entry.dist.name}" if entry.dist else "an installed package"


def split_path(spec: str) -> tuple[str, str]:
    """The `package.module:Class` that a text begins with, and what follows after a colon; "" twice if it does not."""
    found = _PATH.fullmatch(spec)
    return (found[1], found[2] or "") if found else ("", "")


def allow(path: str) -> None:
    """Note that the user has named the class at `path`, so that it may be imported."""
    _allowed.add(path)


def is_allowed(path: str) -> bool:
    """Whether the user has named this class."""
    return path in _allowed


def import_class(path: str) -> type:
    """The class at `package.module:Class`.

    Raises:
        ArgumentError: the user has not named it.
        PipelineError: there is none.
    """
    if path not in _allowed:
        raise ArgumentError(
            f"'{path}' is code, and is not imported because a config or a file says so; if you trust it, name it "
            f"yourself: --model {path} where a training is resumed, elsewhere --code {path}"
        )
    found = import_path(path, f"'{path}'")
    if not isinstance(found, type):
        raise PipelineError(f"'{path}' is not a class")
    return found


def import_path(path: str, what: str) -> Any:
    """What a module has at `module:name`, or `module` itself.

    Args:
        path: as in entry points.
        what: it is, for messages.

    Raises:
        PipelineError: it cannot be imported.
    """
    module, _, names = path.partition(":")
    try:
        found = import_module(module.strip())
        for name in names.split(".") if names else ():
            found = getattr(found, name.strip())
    except (Exception, SystemExit) as error:  # the import of a module can raise anything
        raise PipelineError(f"{what} cannot be imported: {one_line(error)}") from error
    return found
