"""One check, and how it reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """One check. Its texts are one line each, whatever a stranger's files are called."""

    gate: str  # what kind of check
    where: str  # of which file, in which runtime, on which input
    value: str  # what was found
    limit: str  # what is allowed
    passed: bool

    def __post_init__(self) -> None:
        for name in ("gate", "where", "value", "limit"):
            object.__setattr__(self, name, printable(getattr(self, name)))


def equal(name: str, where: str, value: object, wanted: object) -> Gate:
    """A gate for a value that must be `wanted`."""
    return Gate(name, where, _text(value), _text(wanted), value == wanted)


def at_most(name: str, where: str, value: float, limit: float, unit: str = "") -> Gate:
    """A gate for a number that must not be larger than `limit`."""
    # Not `value > limit`: a NaN must fail.
    return Gate(name, where, f"{value:.2g}{unit}", f"at most {limit:.2g}{unit}", value <= limit)


def at_least(name: str, where: str, value: float, limit: float, unit: str = "") -> Gate:
    """A gate for a number that must not be smaller than `limit`."""
    return Gate(name, where, f"{value:.2f}{unit}", f"at least {limit:g}{unit}", value >= limit)


def no_more(name: str, where: str, value: int, limit: int) -> Gate:
    """A gate for a count that must not be larger than `limit`."""
    return Gate(name, where, f"{value:,}", f"at most {limit:,}", value <= limit)


def none_of(name: str, where: str, found: list[str], advice: str = "") -> Gate:
    """A gate for what must not be there; `advice` says what to do about it."""
    return Gate(name, where, _text(found), f"none{f': {advice}' if advice and found else ''}", not found)


def failed(name: str, where: str, error: Exception) -> Gate:
    """A gate that failed with an error."""
    text = " ".join(str(error).split())[:200].replace("|", "/")
    return Gate(name, where, f"{type(error).__name__}: {text}", "no error", False)


def all_passed(gates: Iterable[Gate]) -> bool:
    return all(gate.passed for gate in gates)


def printable(text: str) -> str:
    """`text` on one line, with escapes for what moves the cursor, colours it, or turns the direction of writing."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _text(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    rest = f" and {len(value) - 5:,} more" if len(value) > 5 else ""
    return ", ".join(map(str, value[:5])) + rest if value else "none"
