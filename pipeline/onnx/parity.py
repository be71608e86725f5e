"""The gate: is the file on disk the model that was trained and scored?

Every check ends as a `Gate`, passed or failed; nothing here raises because a file is wrong, so that a report
always shows all of it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from pipeline.data import Images
from pipeline.evaluation import noisy_batches, score
from pipeline.metrics import psnr
from pipeline.noise import Noise
from pipeline.onnx.export import INPUT, IR_VERSION, OPSET, OUTPUT
from pipeline.onnx.runtimes import RUNTIMES, SERVING, Session

MAX_ABS = 1e-5  # onnxruntime against torch, with no relative allowance: a weight off by 0.1 % makes 1.4e-5
ORACLE_FACTOR = 8  # how much further than torch the file may be from the float64 copy of the model ...
ORACLE_FLOOR = 1e-6  # ... or this much, where torch is closer than float32 can promise
# Rounding grows with the input: torch itself was 1.8e-5 from float64 at inputs of 255. Beyond this magnitude, which
# no image with noise reaches, MAX_ABS would ring for correct files, and the float64 gates alone judge.
MAX_ABS_UP_TO = 16.0
BATCH_INVARIANCE = 1e-6  # images at once against one by one
PSNR_TOLERANCE = 0.001  # dB, against what `evaluate` logged

_REAL_BATCHES = (1, 2, 7, 64, 257)  # 257 is prime, and above any block size in use
_LARGEST_SIDE = 64  # of the real images in the probes; the whole images are used for the PSNR


@dataclass(frozen=True)
class Gate:
    """One check of the file."""

    gate: str  # what kind of check
    where: str  # in which runtime, on which input
    value: str  # what was found
    limit: str  # what is allowed
    passed: bool


@dataclass(frozen=True)
class Report:
    """All gates of one file."""

    gates: list[Gate]
    max_abs: float  # largest difference from torch in onnxruntime on finite inputs; NaN if none could be taken
    psnr: float  # of the file on the test set, in dB; NaN if it could not be taken

    @property
    def failures(self) -> list[Gate]:
        return [gate for gate in self.gates if not gate.passed]

    def to_dict(self) -> dict[str, Any]:
        """For `parity_report.json`."""
        return {
            "passed": not self.failures,
            "max_abs_difference": self.max_abs,
            "psnr_db": self.psnr,
            "tolerances": {
                "max_abs": MAX_ABS,
                "max_abs_for_inputs_up_to": MAX_ABS_UP_TO,
                "oracle": f"max({ORACLE_FACTOR} x torch's own distance, {ORACLE_FLOOR:g})",
                "batch_invariance": BATCH_INVARIANCE,
                "psnr_db": PSNR_TOLERANCE,
            },
            "versions": {"onnx": onnx.__version__, "torch": torch.__version__, "onnxruntime": onnxruntime.__version__},
            "gates": [asdict(gate) for gate in self.gates],
        }

    def to_markdown(self) -> str:
        """For `parity_report.md`."""
        verdict = "passed" if not self.failures else f"{len(self.failures)} FAILED"
        lines = [
            "# Parity report",
            "",
            f"{len(self.gates)} gates, {verdict}. Largest difference from torch: {self.max_abs:.2g}. "
            f"PSNR of the file on the test set: {self.psnr:.3f} dB.",
            "",
            f"Made with torch {torch.__version__}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}.",
            "",
            "| gate | where | found | allowed | |",
            "|---|---|---|---|---|",
        ]
        for gate in sorted(self.gates, key=lambda gate: gate.passed):
            verdict = "passed" if gate.passed else "**FAILED**"
            lines.append(f"| {gate.gate} | {gate.where} | {gate.value} | {gate.limit} | {verdict} |")
        return "\n".join(lines) + "\n"


def check(path: Path, model: nn.Module, test: Images, noise: Noise, logged_psnr: float) -> Report:
    """Hold the file at `path` against the model that it was made from.

    Args:
        path: the ONNX file; it is read back from disk by every runtime.
        model: the torch model with the weights of the best epoch.
        test: the test images, uint8 [N, C, H, W] or a list of [C, H, W].
        noise: what the model was trained for.
        logged_psnr: the mean PSNR on the test set, in dB, that `evaluate` logged.
    """
    model = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format).eval()
    gates = list(check_structure(path, test[0].shape[0]))
    probes = dict(make_probes(test, noise))
    wanted = {name: _torch_outputs(model, probe) for name, probe in probes.items()}

    largest = math.nan
    for runtime_name, runtime in RUNTIMES.items():
        try:
            session = runtime.open(path)
        except Exception as error:
            gates.append(_failed("loads", runtime_name, error))
            continue
        for probe_name, probe in probes.items():
            if runtime.largest_probe and probe.size > runtime.largest_probe:
                continue
            where = f"{runtime_name}: {probe_name}"
            try:
                difference, found = _compare(session(probe), *wanted[probe_name], probe, where)
            except Exception as error:
                gates.append(_failed("runs", where, error))
                continue
            gates.extend(found)
            largest = np.fmax(largest, difference)

    quality = math.nan
    try:
        session = RUNTIMES[SERVING].open(path)
        gates.append(_batch_invariance(session, probes["64 noisy test images"]))
        quality = _psnr(session, test, noise)
        gates.append(
            _gate("PSNR equals the evaluated one", SERVING, abs(quality - logged_psnr), PSNR_TOLERANCE, unit=" dB")
        )
    except Exception as error:
        gates.append(_failed("runs", f"{SERVING}: test set", error))
    return Report(gates, float(largest), quality)


def check_structure(path: Path, channels: int) -> Iterator[Gate]:
    """What can be seen without running the file: is it valid, self-contained, and shaped as promised?"""
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as error:
        yield _failed("is an ONNX file", "file", error)
        return
    try:
        onnx.checker.check_model(path, full_check=True)
        yield Gate("onnx checker", "file", "valid", "valid", True)
    except Exception as error:
        yield _failed("onnx checker", "file", error)
    opsets = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    yield _equal("opset", opsets, {"ai.onnx": OPSET})
    yield _equal("IR version", proto.ir_version, IR_VERSION)
    external = [t.name for t in proto.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    yield _equal("tensors with external data", external, [])
    yield _equal("custom domains", sorted({node.domain for node in proto.graph.node} - {"", "ai.onnx"}), [])
    traces = [n.name for n in proto.graph.node if n.metadata_props or n.doc_string]
    yield _equal("nodes with traces of the build machine", traces, [])
    for kind, values, name in (("inputs", proto.graph.input, INPUT), ("outputs", proto.graph.output, OUTPUT)):
        yield _equal(
            kind, [_describe(value) for value in values], [f"{name}: float32 [batch, {channels}, height, width]"]
        )


def make_probes(test: Images, noise: Noise) -> Iterator[tuple[str, np.ndarray]]:
    """Named inputs, float32 [N, C, H, W]: real images first, which find the most faults; then the edges."""
    channels = test[0].shape[0]
    height, width = (min(_LARGEST_SIDE, *(image.shape[axis] for image in test)) for axis in (1, 2))
    # Small test sets are repeated: the noise makes every copy another image.
    real = np.stack([test[index % len(test)][:, :height, :width] for index in range(max(_REAL_BATCHES))])
    noisy = torch.cat([batch for _, batch in noisy_batches(real, noise)]).numpy()
    for size in _REAL_BATCHES:
        yield f"{size} noisy test images", noisy[:size]

    random = np.random.default_rng(0)
    shape = (2, *noisy.shape[1:])
    yield "uniform in [0, 1]", random.random(shape, np.float32)
    yield "normal, far out of range", random.normal(0.5, 2.0, shape).astype(np.float32)
    for constant in (0.0, 0.5, 1.0, -1.0, 255.0, 1e-40):
        yield f"constant {constant:g}", np.full(shape, constant, np.float32)
    impulse = np.zeros(shape, np.float32)
    impulse[:, :, shape[2] // 2, shape[3] // 2] = 1
    yield "impulse", impulse
    checkerboard = np.indices(shape[2:]).sum(axis=0) % 2
    yield "checkerboard", np.broadcast_to(checkerboard, shape).astype(np.float32)
    for height, width in ((1, 1), (2, 3), (5, 7), (31, 64), (101, 99)):
        yield f"size {height}x{width}", random.random((2, channels, height, width), np.float32)
    broken = noisy[:2].copy()
    broken[0, 0, 0, 0], broken[1, 0, -1, -1] = np.nan, np.inf
    yield "NaN and infinity", broken


@torch.no_grad()
def _torch_outputs(model: nn.Module, probe: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the model, and of its float64 copy."""
    noisy = torch.from_numpy(probe)
    return model(noisy).numpy(), copy.deepcopy(model).double()(noisy.double()).numpy()


def _compare(
    found: np.ndarray, wanted: np.ndarray, exact: np.ndarray, probe: np.ndarray, where: str
) -> tuple[float, list[Gate]]:
    """The largest difference from torch (NaN where it is not judged), and the gates of one probe in one runtime."""
    kind = f"{found.dtype} {list(found.shape)}"
    wanted_kind = f"{wanted.dtype} {list(wanted.shape)}"
    if kind != wanted_kind:
        return math.nan, [Gate("type and shape", where, kind, wanted_kind, False)]
    finite = np.isfinite(wanted)
    gates = []
    if not finite.all() or not np.isfinite(found).all():
        same = np.array_equal(np.isnan(found), np.isnan(wanted)) and np.array_equal(np.isfinite(found), finite)
        gates.append(Gate("NaN where torch has NaN", where, "same" if same else "differs", "same", same))
        if not same:
            return math.nan, gates
    if not finite.any():
        return math.nan, gates
    difference = float(np.abs(found - wanted)[finite].max())
    torch_error = float(np.abs(wanted - exact)[finite].max())
    file_error = float(np.abs(found - exact)[finite].max())
    gates.append(_gate("distance from float64", where, file_error, max(ORACLE_FACTOR * torch_error, ORACLE_FLOOR)))
    if np.abs(probe[np.isfinite(probe)]).max() > MAX_ABS_UP_TO:
        return math.nan, gates
    gates.append(_gate("difference from torch", where, difference, MAX_ABS))
    return difference, gates


def _batch_invariance(session: Session, probe: np.ndarray) -> Gate:
    one_by_one = np.concatenate([session(probe[i : i + 1]) for i in range(len(probe))])
    difference = float(np.abs(session(probe) - one_by_one).max())
    return _gate("at once = one by one", f"{SERVING}: {len(probe)} noisy test images", difference, BATCH_INVARIANCE)


def _psnr(session: Session, test: Images, noise: Noise) -> float:
    denoisers = {"file": lambda noisy: torch.from_numpy(session(noisy.numpy())).clamp(0, 1)}
    return float(score(test, noise, denoisers, {"psnr": psnr})["file"]["psnr"].mean())


def _gate(name: str, where: str, value: float, limit: float, unit: str = "") -> Gate:
    # Not `value > limit`: a NaN must fail.
    return Gate(name, where, f"{value:.2g}{unit}", f"at most {limit:.2g}{unit}", value <= limit)


def _equal(name: str, value: object, wanted: object) -> Gate:
    return Gate(name, "file", _text(value), _text(wanted), value == wanted)


def _failed(name: str, where: str, error: Exception) -> Gate:
    text = " ".join(str(error).split())[:200].replace("|", "/")
    return Gate(name, where, f"{type(error).__name__}: {text}", "no error", False)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _describe(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "unknown"
    sizes = [dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim]
    return f"{value.name}: {kind} [{', '.join(sizes)}]"
