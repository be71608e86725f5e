"""What a gate lets through, with arrays in place of files."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.handoff.parity import (
    MAX_ABS,
    MAX_ABS_UP_TO,
    ORACLE_FACTOR,
    ORACLE_FLOOR,
    Outputs,
    Probe,
    Report,
    compare,
    make_probes,
)
from pipeline.verification.gates import Gate, at_least, at_most, equal, failed

IMAGES = np.full((2, 1, 3, 3), 0.5, np.float32)


def off_by(difference: float, of: np.ndarray = IMAGES) -> np.ndarray:
    """With one pixel changed."""
    changed = of.astype(np.float64)
    changed[1, 0, 2, 2] += difference
    return changed


def gates(file: float, torch: float = 0.0, *, real: bool = False, magnitude: float = 0.5) -> dict[str, bool]:
    """Which gates a file passes that is so far from float64, where torch is so far on the other side."""
    probe = Probe("a probe", np.full_like(IMAGES, magnitude), real)
    outputs = Outputs(off_by(-torch).astype(np.float32), IMAGES.astype(np.float64))
    return {gate.gate: gate.passed for gate in compare(off_by(file).astype(np.float32), outputs, probe, "here")[1]}


def test_a_real_probe_has_no_allowance_beyond_max_abs() -> None:
    torch = 4e-6  # eight times that is beyond MAX_ABS
    assert ORACLE_FACTOR * torch > 2 * MAX_ABS
    wanted = {"distance from float64": True, "difference from torch": True}
    assert gates(0.5 * MAX_ABS, torch, real=True) == gates(0.5 * MAX_ABS, torch) == wanted
    assert gates(1.2 * MAX_ABS, torch) == wanted  # made up: torch's own distance is the measure
    assert gates(1.2 * MAX_ABS, torch, real=True) == {**wanted, "difference from torch": False}
    assert gates(4 * MAX_ABS, torch) == {"distance from float64": False, "difference from torch": False}


def test_what_counts_as_the_largest_difference() -> None:
    probe, outputs = Probe("real", IMAGES, real=True), Outputs(IMAGES, IMAGES.astype(np.float64))
    assert compare(off_by(5e-7).astype(np.float32), outputs, probe, "")[0] == pytest.approx(5e-7, abs=6e-8)
    # Not where more than MAX_ABS is allowed.
    distant = Outputs(IMAGES, off_by(4e-6))
    assert compare(IMAGES, distant, probe, "")[0] == 0
    assert math.isnan(compare(IMAGES, distant, Probe("made up", IMAGES), "")[0])


def test_the_distance_from_float64_that_is_always_allowed_grows_with_the_input() -> None:
    name = "distance from float64"
    assert gates(0.9 * ORACLE_FLOOR)[name]
    assert not gates(1.2 * ORACLE_FLOOR)[name]
    assert gates(10 * ORACLE_FLOOR, magnitude=12)[name]
    assert not gates(14 * ORACLE_FLOOR, magnitude=12)[name]


def test_beyond_any_noisy_image_only_float64_counts() -> None:
    assert set(gates(0, magnitude=MAX_ABS_UP_TO)) == {"distance from float64", "difference from torch"}
    assert gates(2 * MAX_ABS, magnitude=255) == {"distance from float64": True}


def test_nan_must_be_where_torch_has_nan() -> None:
    wanted = IMAGES.copy()
    wanted[0, 0, 0, 0] = np.nan
    probe, outputs = Probe("NaN", wanted), Outputs(wanted, wanted.astype(np.float64))
    assert [gate.passed for gate in compare(wanted, outputs, probe, "")[1]] == [True, True, True]
    for elsewhere in (IMAGES, np.full_like(IMAGES, np.nan), np.where(np.isnan(wanted), np.inf, wanted)):
        (gate,) = compare(elsewhere.astype(np.float32), outputs, probe, "")[1]
        assert (gate.gate, gate.passed) == ("NaN where torch has NaN", False)


@pytest.mark.parametrize("found", [IMAGES[:1], IMAGES.astype(np.float64), IMAGES[:, 0]])
def test_another_type_or_shape_is_one_failure(found: np.ndarray) -> None:
    largest, (gate,) = compare(found, Outputs(IMAGES, IMAGES), Probe("a probe", IMAGES), "here")
    assert math.isnan(largest)
    assert (gate.gate, gate.where, gate.passed) == ("type and shape", "here", False)


def test_the_probes() -> None:
    noisy = np.random.default_rng(0).normal(0.5, 0.3, (257, 3, 12, 10)).astype(np.float32)
    probes = list(make_probes(noisy))
    assert len({probe.name for probe in probes}) == len(probes)
    assert all(probe.images.dtype == np.float32 and probe.images.shape[1] == 3 for probe in probes)
    assert [len(probe.images) for probe in probes if probe.real] == [1, 2, 7, 64, 257]
    assert all(np.array_equal(probe.images, noisy[: len(probe.images)]) for probe in probes if probe.real)
    assert [probe.name for probe in probes if not np.isfinite(probe.images).all()] == ["NaN and infinity"]
    assert np.isfinite(noisy).all()  # the caller's images are not changed
    assert {probe.images.shape[2:] for probe in probes} >= {(12, 10), (1, 1), (31, 64)}


def test_limits_are_allowed_and_nan_is_not() -> None:
    assert at_most("a", "", 1.0, 1.0).passed
    assert at_least("a", "", 1.0, 1.0).passed
    assert equal("a", "", [1], [1]).passed
    assert not at_most("a", "", 1.1, 1.0).passed
    assert not at_least("a", "", 0.9, 1.0).passed
    assert not equal("a", "", [], [1]).passed
    assert not at_most("a", "", math.nan, 1.0).passed
    assert not at_least("a", "", math.nan, 1.0).passed


def test_how_a_gate_reads() -> None:
    assert equal("missing files", "folder", list("abcdefg"), []) == Gate(
        "missing files", "folder", "a, b, c, d, e and 2 more", "none", False
    )
    gate = at_most("PSNR lost", "model_int8.onnx", 0.123, 0.1, " dB")
    assert (gate.value, gate.limit) == ("0.12 dB", "at most 0.1 dB")
    # An error goes into a table, as one cell.
    gate = failed("runs", "onnxruntime", ValueError("a | b\nc " + 300 * "x"))
    assert gate.value.startswith("ValueError: a / b c xxx")
    assert len(gate.value) < 220


def test_a_report_shows_the_failures_first() -> None:
    report = Report([Gate("opset", "here", "18", "18", True), Gate("runs", "there", "no", "yes", False)], 1e-6, 30.0)
    assert [gate.gate for gate in report.failures] == ["runs"]
    assert report.to_dict()["passed"] is False
    text = report.to_markdown()
    assert "2 gates, 1 FAILED." in text
    assert text.index("| runs | there | no | yes | **FAILED** |") < text.index("| opset | here | 18 | 18 | passed |")
