"""`verify` on the command line: the table that it prints, its last line, and its exit code."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import onnx

from .folder import MODEL, SUMS, sha256_file, verify
from .gates import Gate, printable
from .runtimes import RUNTIMES, is_installed

EXIT_CODE = 3  # if a check failed
OLDEST_ONNX = (1, 16)  # which knows all fields of a node


def report(folder: Path, choice: str) -> tuple[str, str, int]:
    """Verify `folder`: the table to print, the line that says what failed ("" if nothing did), and the exit code.

    Args:
        folder: the hand-off folder.
        choice: a key of `RUNTIMES`, or "all" for every one that is installed.
    """
    if tuple(map(int, onnx.__version__.split(".")[:2])) < OLDEST_ONNX:
        oldest = ".".join(map(str, OLDEST_ONNX))
        return "", f"onnx {onnx.__version__} is too old: onnx {oldest} or newer is needed; run: pip install -U onnx", 1
    if not (folder / SUMS).is_file():
        return "", f"{printable(str(folder))} is not a hand-off folder: it has no file {SUMS}", 2
    runtimes = [name for name in RUNTIMES if is_installed(name)] if choice == "all" else [choice]
    missing = [name for name in (RUNTIMES if choice == "all" else [choice]) if not is_installed(name)]
    if choice != "all" and missing:
        return "", f"{choice} is not installed; run: pip install {RUNTIMES[choice].package}", 1
    gates = verify(folder, runtimes)
    lines = _lines(gates)
    lines += [f"not run: {name} is not installed (pip install {RUNTIMES[name].package})" for name in missing]
    failures, name = [gate for gate in gates if not gate.passed], printable(str(folder))
    if failures:
        first = failures[0]
        why = f"{first.gate} ({first.where}): {first.value}; allowed: {first.limit}"
        return "\n".join(lines), f"{name}: {len(failures)} of {len(gates)} checks failed, the first: {why}", EXIT_CODE
    done = f"{len(gates)} checks passed, in {', '.join(runtimes)}"
    lines.append(f"verify: {name}: {done}; SHA-256 of {MODEL}: {sha256_file(folder / MODEL)}")
    return "\n".join(lines), "", 0


def _lines(gates: Sequence[Gate]) -> list[str]:
    """A line for each check, under a head; in a terminal, cut at its width."""
    rows = [("ok" if gate.passed else "FAILED", gate.gate, gate.where, gate.value, gate.limit) for gate in gates]
    rows = [("", "check", "where", "found", "allowed"), *rows]
    widths = [min(64, max(len(row[column]) for row in rows)) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if not sys.stdout.isatty():
        return lines
    room = shutil.get_terminal_size().columns
    return [line if len(line) <= room else f"{line[: room - 1]}…" for line in lines]


def main(description: str, folder: Path) -> None:
    """Run it.

    Args:
        description: for `--help`.
        folder: the hand-off folder, unless the command line names another.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=folder, help="default: the folder of this file")
    parser.add_argument("--runtime", choices=[*RUNTIMES, "all"], default="onnxruntime")
    arguments = parser.parse_args()
    table, error, code = report(arguments.folder, arguments.runtime)
    if table:
        print(table)
    if error:
        print(f"Error: {error}", file=sys.stderr)
    sys.exit(code)
