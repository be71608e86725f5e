"""Do the ONNX file, the manifest and the model card say the same?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx

from .forms import File
from .gates import Gate, equal
from .graph import INPUT, IR_VERSION, OPSET, OUTPUT

CARD = "MODEL_CARD.md"
MAX_VALUE = 1_000.0  # of a noisy image whose clean pixels are in [0, 1]: no range of the pipeline comes close
_IN_BOTH = ("white", "black", "pixel_type")  # in the manifest and in the metadata, if in one


def check_facts(folder: Path, file: File, manifest: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[Gate]:
    """Compare what is said of a file that passed `check_structure`.

    Args:
        folder: the hand-off folder.
        file: one of its files.
        manifest: as it was read.
        entry: of the file, in the manifest.
    """
    where = f"{file.name}, manifest.json"
    proto = onnx.load(folder / file.name)
    facts = {prop.key: prop.value for prop in proto.metadata_props}
    yield equal("channels", where, [manifest.get("channels")], [file.channels])
    yield equal("opset and IR version", where, [entry.get("opset"), entry.get("ir_version")], [OPSET, IR_VERSION])
    shape = ["batch", file.channels, "height", "width"]
    for side, name in (("input", INPUT), ("output", OUTPUT)):
        about = [entry.get(side, {}).get(key) for key in ("name", "dtype", "shape")]
        yield equal(f"what the manifest says of the {side}", where, about, [name, file.form.dtype, shape])
    low, high = _range(manifest.get("accepted_range"))
    sound = -MAX_VALUE <= low < high <= MAX_VALUE
    yield Gate("accepted range", where, f"{low:g} to {high:g}", f"within ±{MAX_VALUE:g}", sound)
    yield equal("accepted range in both", where, [*_range(facts.get("accepted_range", "").split())], [low, high])
    yield equal("halo in both", where, facts.get("halo"), str(file.halo))
    for key in _IN_BOTH:
        yield equal(f"{key} in both", where, _number(facts.get(key)), _number(manifest.get(key)))
    if "removed_correlation" in {*facts, *manifest}:
        found, said = facts.get("removed_correlation", "").split(), manifest.get("removed_correlation")
        yield equal("removed_correlation in both", where, [*_range(found)], [*_range(said)])
    for key, value in (("mlflow_run_id", manifest), ("weights_sha256", manifest.get("model", {}))):
        yield equal(f"{key} in both", where, facts.get(key), value.get(key))
    card = " ".join((folder / CARD).read_text(encoding="utf-8").split())
    for what, said in {
        "channels": f"[batch, {file.channels}, height, width]",
        "opset": f"opset {OPSET}, IR version {IR_VERSION}",
        "accepted range": f"below {low:g} or above {high:g}",
        "halo": f"with {file.halo} more pixels on each side",
        "file": f"`{file.name}`",
    }.items():
        yield Gate(f"{what} in the card", CARD, said if said in card else "something else", said, said in card)


def _range(values: Any) -> tuple[float, float]:
    """Of two numbers, or texts of such; NaN if they are not."""
    try:
        low, high = map(float, values)
    except (TypeError, ValueError, OverflowError):
        return math.nan, math.nan
    return low, high


def _number(value: object) -> object:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return value
