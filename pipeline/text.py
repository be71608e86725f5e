"""Text on its way out, to a terminal, a log, a table or a tag: names may be anybody's, and addresses hold passwords.

It is made fit where it leaves, not where it comes in, so that a name stays what it is.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

_HIDDEN = "***"
_USER = re.compile(r"(?<=://)[^/?#\s]*@")  # of an address, with the password
_QUERY = re.compile(r"(?i)([?&](?:[\w-]*password|pwd|[\w-]*token|[\w-]*secret|[\w-]*signature|sig)=)[^&#\s'\"]+")
# Of an address in the environment, whose password may hold what must be quoted in an address.
_PASSWORD = re.compile(r"://[^/@:\s]*:([^\s]+)@")
# The name of a variable with a secret; not with the path of a file that holds one.
_SECRET = re.compile(r"(?i)(?!.*(file|path|dir)$).*(password|passwd|token|secret|api_?key|access_?key|credential)")
_SHORTEST = 8  # characters: a secret that is shorter may be a common word


def printable(text: Path | str) -> str:
    """A text that every terminal, file and database takes: in one line, bytes that are not UTF-8 as `\\xe9`."""
    text = str(text)
    return text if text.isprintable() else "".join(map(_visible, text))


def without_secrets(text: str) -> str:
    """A text with `***` in place of the passwords in its addresses, and of those in the environment."""
    for secret in _secrets():
        text = text.replace(secret, _HIDDEN)
    return _QUERY.sub(rf"\1{_HIDDEN}", _USER.sub(f"{_HIDDEN}@", text))


def shown(text: Path | str) -> str:
    """A text as one line that anybody may see."""
    return without_secrets(printable(text))


_is_quiet = _warns = False


@contextmanager
def quietly(is_quiet: bool = True, warns: bool = True) -> Iterator[None]:
    """Inside, nothing is printed to stdout, and there are no bars.

    Args:
        is_quiet: False changes nothing.
        warns: what `say` has for stderr becomes a warning of Python; else it goes there.
    """
    global _is_quiet, _warns
    before = _is_quiet, _warns
    if is_quiet:
        _is_quiet, _warns = True, warns
    try:
        yield
    finally:
        _is_quiet, _warns = before


def is_quiet() -> bool:
    """Whether nothing is to be printed to stdout, and no bars."""
    return _is_quiet


def say(*lines: str, err: bool = False) -> None:
    """Print lines, each of which stays one line; see `quietly`.

    Args:
        lines: what to print.
        err: on stderr.
    """
    if _warns:
        for line in lines if err else ():
            warnings.warn(shown(line), stacklevel=2)
        return
    import click  # whoever only reads and denoises does without

    for line in lines:
        click.echo(shown(line), err=err)


def terminal_width() -> int | None:
    """Characters that fit into a line of the terminal that stdout is; None if it is none, where nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _visible(letter: str) -> str:
    if letter.isprintable():
        return letter
    code = ord(letter)
    # How Python stands for a byte of a file's name that is not UTF-8.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else repr(letter)[1:-1]


def _secrets() -> list[str]:
    """What in the environment must not get out, the longest first."""
    found = set()
    for name, value in os.environ.items():
        found.update(_PASSWORD.findall(value))
        if _SECRET.match(name):
            found.add(value)
    longer = [text for text in found if len(text) >= _SHORTEST]
    return sorted({form for text in longer for form in (text, quote(text, safe=""))}, key=len, reverse=True)
