"""How many planted faults do the gate of `export` and the receiver's check find? Prints Markdown tables.

    python -m benchmarks.handoff_faults [--short]

Needs `pip install -e '.[test]'`. Trains a small model for some seconds first. Takes about ten minutes on two cores.
Exit code 1: the gate missed a fault.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.damaged_folders import NOISE, PACKING, SEALED, Damage, Right, plant, seal
from benchmarks.planted import FAULTS
from pipeline.handoff.parity import check
from pipeline.handoff.proof import check_packed
from pipeline.verification.folder import MODEL, verify
from pipeline.verification.gates import Gate


def damaged(right: Right, scratch: Path, damage: Damage) -> Path:
    """A copy of the right folder with a fault in it."""
    shutil.rmtree(scratch, ignore_errors=True)
    folder = Path(shutil.copytree(right.folder, scratch / "received"))
    damage(folder, right)
    return folder


def gate_of_file(folder: Path, right: Right) -> list[Gate]:
    """What the gate of `export` finds in the model of a folder."""
    return check(folder / MODEL, right.model, right.data.test, NOISE, {"psnr": right.psnr}).failures


def _failures(gates: list[Gate]) -> list[Gate]:
    return [gate for gate in gates if not gate.passed]


def _row(name: str, *found: list[Gate]) -> str:
    cells = [f"{gates[0].gate} ({gates[0].where})" if gates else "**missed**" for gates in found]
    return f"| {' | '.join([name, *cells])} |".replace("\n", " ")


def table(
    title: str,
    heads: list[str],
    faults: Mapping[str, Damage],
    find: Callable[[Path], list[list[Gate]]],
    make: Callable[[Damage], Path],
) -> list[int]:
    """Print a table, and return how many faults each column missed."""
    print(f"\n{title}\n\n| fault | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    missed = [0] * len(heads)
    for name, damage in faults.items():
        found = find(make(damage))
        print(_row(name, *found), flush=True)
        missed = [count + (not gates) for count, gates in zip(missed, found, strict=True)]
    caught = [f"{len(faults) - count} of {len(faults)}" for count in missed]
    print(f"| **found** | {' | '.join(caught)} |", flush=True)
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="every eighth fault; takes a minute")
    step = 8 if parser.parse_args().short else 1

    def some(faults: Mapping[str, Any]) -> dict[str, Any]:
        return dict([*faults.items()][::step])

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        right, work = Right.make(Path(scratch) / "right"), Path(scratch) / "work"
        untouched = damaged(right, work, lambda folder, right: seal(folder))
        assert not gate_of_file(untouched, right)
        assert not _failures(verify(untouched, ["onnxruntime"]))

        def make(damage: Damage) -> Path:
            return damaged(right, work, damage)

        def both(folder: Path) -> list[list[Gate]]:
            return [gate_of_file(folder, right), _failures(verify(folder, ["onnxruntime"]))]

        planted = {name: plant(name) for name in some(FAULTS)}
        missed = table("Faults in the exported file", ["the gate", "`verify`, sealed again"], planted, both, make)[:1]
        missed += table(
            "Faults in packing",
            ["`export`"],
            some(PACKING),
            lambda folder: [_failures(check_packed(folder, right.proof))],
            make,
        )
        missed += table(
            "Folders that were changed and sealed again",
            ["`verify`"],
            some(SEALED),
            lambda folder: [_failures(verify(folder, ["onnxruntime"]))],
            make,
        )
    sys.exit(any(missed))


if __name__ == "__main__":
    main()
