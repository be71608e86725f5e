"""The parity gates: is the file on disk the model that was trained and scored?

Every check ends as a `Gate`, passed or failed. Nothing here raises because a file is wrong, so that a report always
shows every gate.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from pipeline.data.images import Images, Part
from pipeline.denoising.tiling import tiled
from pipeline.handoff.first_difference import first_difference
from pipeline.handoff.weights import check_weights
from pipeline.noise import Noise
from pipeline.scoring.evaluation import score_noise
from pipeline.scoring.metrics import psnr
from pipeline.scoring.score import clipped, identity, noisy_inputs
from pipeline.verification.forms import FORMS
from pipeline.verification.gates import Gate, all_passed, at_most, failed
from pipeline.verification.graph import check_structure
from pipeline.verification.runtimes import Session, open_onnxruntime, open_reference

# The tolerances. All differences are of output pixels, whose range is [0, 1].
# Onnxruntime against torch, with no relative allowance: one weight off by 0.1 % makes 1.4e-5.
MAX_ABS = FORMS["float32"].max_abs or 0.0
# How many times further than torch the file may be from the float64 copy of the model. On made-up inputs this is also
# allowed as the difference from torch where it exceeds MAX_ABS: a U-Net that has only seen noisy images magnified
# rounding errors at a constant 0, and torch itself was 2.6e-5 away from float64.
ORACLE_FACTOR = 8
# The distance from float64 that is always allowed, times the largest input where that is above 1, because torch may be
# closer than float32 can promise. (At 255, a file was 2.3e-6 away where torch happened to be nearly exact.)
ORACLE_FLOOR = 1e-6
# Rounding errors grow with the input: torch itself was 1.8e-5 from float64 at inputs of 255. Above this magnitude,
# which no noisy image reaches, MAX_ABS would reject correct files, so only the distance from float64 counts there.
MAX_ABS_UP_TO = 16.0
BATCH_INVARIANCE = 1e-6  # images in one batch against one by one
PSNR_TOLERANCE = 0.001  # dB, against what `evaluate` logged
# What is held against what `evaluate` logged, the first that it did: its name, how far it may be off, and its unit.
LOGGED: dict[str, tuple[str, float, str]] = {
    "psnr": ("PSNR", PSNR_TOLERANCE, " dB"),
    "psnr_estimated": ("estimated PSNR", PSNR_TOLERANCE, " dB"),
    "mse_estimated": ("estimated mean squared error", 1e-6, ""),  # where it is not positive
    "removed": ("root mean square of what was removed", 1e-5, ""),
}

SERVING = "onnxruntime ORT_ENABLE_ALL"  # onnxruntime's default, which a consumer gets
_REFERENCE = "onnx ReferenceEvaluator"
_REFERENCE_PIXELS = 1024  # the largest probe that it runs in reasonable time
_SESSIONS: dict[str, Callable[[Path], Session]] = {
    **{
        f"onnxruntime {level}": partial(open_onnxruntime, level=level)
        for level in onnxruntime.GraphOptimizationLevel.__members__
    },
    _REFERENCE: open_reference,
}

_REAL_BATCHES = (1, 2, 7, 64, 257)  # 257 is prime, and above any block size in use
_LARGE_BATCH = 601
_INVARIANCE_IMAGES = 64
_TILE_STEP = 64  # pixels of a tile that are kept
_LARGEST_SIDE = 64  # of the real images in the probes; the whole images are used for the PSNR


@dataclass(frozen=True)
class Probe:
    """An input that the file must treat as the model does."""

    name: str
    images: np.ndarray  # float32 [N, C, H, W]
    real: bool = False  # noisy test images, rather than made up; see `ORACLE_FACTOR`


@dataclass(frozen=True)
class Outputs:
    """What torch makes of a probe."""

    wanted: np.ndarray  # the model's, float32 [N, C, H, W]
    exact: np.ndarray  # its float64 copy's


@dataclass(frozen=True)
class Report:
    """All gates of one file."""

    gates: list[Gate]
    max_abs: float  # largest difference from torch where MAX_ABS is the limit; NaN if nothing could be compared
    value: float  # of the file on the test images; NaN if it could not be measured
    metric: str = "psnr"  # what was measured: a key of `LOGGED`
    first_difference: str = ""  # where file and model begin to differ, if an output does

    @property
    def quality(self) -> str:
        """What was measured of the file on the test images, in words."""
        name, _, unit = LOGGED[self.metric]
        what = f"{name} of the file on the test images"
        if self.metric == "removed":
            what = "root mean square of what the file removed from the test images"
        return f"{what[0].upper()}{what[1:]}: {self.value:.3f}{unit}"

    @property
    def failures(self) -> list[Gate]:
        return [gate for gate in self.gates if not gate.passed]

    def to_dict(self) -> dict[str, Any]:
        """For `parity_report.json`."""
        return {
            "passed": not self.failures,
            **({"first_difference": self.first_difference} if self.first_difference else {}),
            "max_abs_difference": self.max_abs,
            **({"psnr_db": self.value} if self.metric == "psnr" else {self.metric: self.value}),
            "tolerances": {
                "max_abs": MAX_ABS,
                "max_abs_for_inputs_up_to": MAX_ABS_UP_TO,
                "made_up_inputs": f"max({MAX_ABS:g}, {ORACLE_FACTOR} x torch's own distance)",
                "oracle": f"max({ORACLE_FACTOR} x torch's own distance, {ORACLE_FLOOR:g} x max(1, largest input))",
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
            f"{len(self.gates)} gates, {verdict}. Largest difference from torch: {self.max_abs:.2g}. {self.quality}.",
            "",
            *([f"File and model first differ at {self.first_difference}.", ""] if self.first_difference else []),
            f"Made with torch {torch.__version__}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}.",
            "",
            "| gate | where | found | allowed | |",
            "|---|---|---|---|---|",
        ]
        for gate in sorted(self.gates, key=lambda gate: gate.passed):
            verdict = "passed" if gate.passed else "**FAILED**"
            lines.append(f"| {gate.gate} | {gate.where} | {gate.value} | {gate.limit} | {verdict} |")
        return "\n".join(lines) + "\n"


def check(path: Path, model: nn.Module, test: Part, noise: Noise, logged: Mapping[str, float]) -> Report:
    """Hold the file at `path` against the model that it was made from.

    Args:
        path: the ONNX file; it is read back from disk by every runtime.
        model: the torch model with the weights of the best epoch.
        test: the test images.
        noise: what the model was trained for.
        logged: the scores of the model on the test images that `evaluate` logged, with this noise.
    """
    model = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format).eval()
    gates = list(check_structure(path, test.images[0].shape[0]))
    if not all_passed(gates):  # no runtime opens it
        return Report(gates, math.nan, math.nan)
    gates += check_weights(path, model)
    noisy = real_probes(test, noise)
    probes = [(probe, _torch_outputs(model, probe)) for probe in make_probes(noisy)]

    largest, differs = math.nan, ""
    for runtime, open_session in _SESSIONS.items():
        try:
            session = open_session(path)
        except Exception as error:
            gates.append(failed("loads", runtime, error))
            continue
        for probe, outputs in probes:
            if runtime == _REFERENCE and probe.images.size > _REFERENCE_PIXELS:
                continue
            where = f"{runtime}: {probe.name}"
            try:
                difference, found = compare(session(probe.images), outputs, probe, where)
            except Exception as error:
                gates.append(failed("runs", where, error))
                continue
            gates.extend(found)
            largest = np.fmax(largest, difference)
            if not all_passed(found) and not differs:
                differs = first_difference(path, model, probe.images) or "no node: only the sum of rounding errors does"

    metric = next(metric for metric in LOGGED if metric in logged)
    value = math.nan
    try:
        session = _SESSIONS[SERVING](path)
        gates.append(_batch_invariance(session, noisy[:_INVARIANCE_IMAGES]))
        gates.append(_tiles(session, path, noisy))
        value = _score(session, test, noise, metric)
        name, tolerance, unit = LOGGED[metric]
        gates.append(
            at_most(f"{name} as logged by evaluate", SERVING, abs(value - logged[metric]), tolerance, unit=unit)
        )
    except Exception as error:
        gates.append(failed("runs", f"{SERVING}: test images", error))
    return Report(gates, float(largest), value, metric, differs)


def make_probes(noisy: np.ndarray) -> Iterator[Probe]:
    """Inputs for the file: real images first, which find most faults, then edge cases.

    Args:
        noisy: what `real_probes` returns.
    """
    for size in _REAL_BATCHES:
        yield Probe(f"{size} noisy test images", noisy[:size], real=True)

    random = np.random.default_rng(0)
    shape = (2, *noisy.shape[1:])
    yield Probe("uniform in [0, 1]", random.random(shape, np.float32))
    yield Probe("normal, far out of range", random.normal(0.5, 2.0, shape).astype(np.float32))
    for constant in (0.0, 0.5, 1.0, -1.0, 255.0, 1e-40):
        yield Probe(f"constant {constant:g}", np.full(shape, constant, np.float32))
    impulse = np.zeros(shape, np.float32)
    impulse[:, :, shape[2] // 2, shape[3] // 2] = 1
    yield Probe("impulse", impulse)
    checkerboard = np.indices(shape[2:]).sum(axis=0) % 2
    yield Probe("checkerboard", np.broadcast_to(checkerboard, shape).astype(np.float32))
    # A file can be right up to some size, or only of dark images.
    for height, width in ((1, 1), (2, 3), (5, 7), (31, 64), (101, 99), (160, 33), (33, 160), (601, 24), (24, 601)):
        yield Probe(f"size {height}x{width}", random.random((2, shape[1], height, width), np.float32))
    yield Probe(f"batch of {_LARGE_BATCH}", random.random((_LARGE_BATCH, shape[1], 8, 8), np.float32))
    yield Probe("negatives of test images", 1 - noisy[:7])
    yield Probe("test images made brighter by half", noisy[:7] + np.float32(0.5))
    broken = noisy[:2].copy()
    broken[0, 0, 0, 0], broken[1, 0, -1, -1] = np.nan, np.inf
    yield Probe("NaN and infinity", broken)


def real_probes(test: Part, noise: Noise) -> np.ndarray:
    """257 noisy test images, float32 [257, C, H, W], cropped to a small size that fits all of them."""
    test = test.for_noise(noise.is_recorded)
    height, width = (min(_LARGEST_SIDE, *(image.shape[axis] for image in test.images)) for axis in (1, 2))

    def small(images: Images | None) -> np.ndarray | None:
        if images is None:
            return None
        # A small test set is repeated: noise that is drawn makes every copy a different image.
        return np.stack([images[index % len(images)][:, :height, :width] for index in range(max(_REAL_BATCHES))])

    if test.noisy is not None:
        test = Part(None, small(test.noisy), np.arange(max(_REAL_BATCHES)), test.levels)
    else:
        test = Part(small(test.clean), levels=test.levels)
    return torch.cat([batch for _, batch in noisy_inputs(test, noise)]).numpy()


@torch.no_grad()
def _torch_outputs(model: nn.Module, probe: Probe) -> Outputs:
    noisy = torch.from_numpy(probe.images)
    return Outputs(model(noisy).numpy(), copy.deepcopy(model).double()(noisy.double()).numpy())


def compare(found: np.ndarray, outputs: Outputs, probe: Probe, where: str) -> tuple[float, list[Gate]]:
    """Hold what a runtime made of a probe against what torch made of it.

    Args:
        found: the output of the runtime.
        outputs: those of torch.
        probe: the input.
        where: what the gates say of the runtime and the probe.

    Returns:
        The largest difference from torch (NaN where the limit is not `MAX_ABS`), and the gates.
    """
    wanted, exact = outputs.wanted, outputs.exact
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
    magnitude = float(np.abs(probe.images[np.isfinite(probe.images)]).max())
    allowed = max(ORACLE_FACTOR * torch_error, ORACLE_FLOOR * max(1.0, magnitude))
    gates.append(at_most("distance from float64", where, file_error, allowed))
    if magnitude > MAX_ABS_UP_TO:
        return math.nan, gates
    limit = MAX_ABS if probe.real else max(MAX_ABS, ORACLE_FACTOR * torch_error)
    gates.append(at_most("difference from torch", where, difference, limit))
    return (difference if limit == MAX_ABS else math.nan), gates


def _batch_invariance(session: Session, images: np.ndarray) -> Gate:
    one_by_one = np.concatenate([session(images[i : i + 1]) for i in range(len(images))])
    difference = float(np.abs(session(images) - one_by_one).max())
    where = f"{SERVING}: {len(images)} noisy test images"
    return at_most("batch equals one by one", where, difference, BATCH_INVARIANCE)


def _tiles(session: Session, path: Path, noisy: np.ndarray) -> Gate:
    """Does `denoise` get from tiles, with the halo that the file names, what the whole image gives?"""
    facts = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    halo = int(facts["halo"])
    tile = 2 * halo + _TILE_STEP
    size = (tile + 24, tile + 40)  # two tiles each way, all sides multiples of any stride
    image = np.tile(noisy[:1], (1, 1, *(-(-want // have) for want, have in zip(size, noisy.shape[2:], strict=True))))
    image = np.ascontiguousarray(image[..., : size[0], : size[1]])
    difference = float(np.abs(tiled(session, image, halo, tile) - session(image)).max())
    where = f"{SERVING}: halo of {halo}, {size[0]}x{size[1]}"
    return at_most("tiles equal the whole image", where, difference, MAX_ABS)


def _score(session: Session, test: Part, noise: Noise, metric: str) -> float:
    denoisers = {"denoised": lambda noisy: torch.from_numpy(session(noisy.numpy())).clamp(0, 1)}
    if metric == "removed":
        denoisers = {"noisy": identity, "clipped": clipped, **denoisers}
    return score_noise(test, noise, denoisers, {"psnr": psnr}).summary["denoised"][metric]
