"""Check a hand-off folder: is it complete, is its model safe to open, and does your runtime compute the right output?

    python verify.py [FOLDER] [--runtime onnxruntime|reference|tract|opencv|openvino|all]

Needs `pip install numpy onnx onnxruntime`, and the package of any other runtime that you choose. Exit code 0: every
check passed; 1: a runtime is not installed; 2: a usage error; 3: a check failed, and the last line says which.

A copy of this file is in every hand-off folder, so it imports nothing from the pipeline that made it. What the two
sides agree on is defined here: the names, the axes, the opset.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx

MODEL, MANIFEST, SUMS = "model.onnx", "manifest.json", "SHA256SUMS"
OPSET = 18  # the newest that torch's exporter writes without a conversion, and that older runtimes read too
IR_VERSION = 8  # the lowest that opset 18 allows; torch writes 10, which runtimes before 2024 refuse
INPUT, OUTPUT = "noisy", "denoised"
MAX_BYTES = 256 * 2**20  # of an ONNX file: no model of the pipeline comes close
EXIT_CODE = 3  # if a check failed

Session = Callable[[np.ndarray], np.ndarray]
"""Noisy images to denoised images, both [N, C, H, W]."""


@dataclass(frozen=True)
class Gate:
    """One check."""

    gate: str  # what kind of check
    where: str  # of which file, in which runtime, on which input
    value: str  # what was found
    limit: str  # what is allowed
    passed: bool


@dataclass(frozen=True)
class Runtime:
    """A way to run an ONNX file."""

    module: str  # that must be importable
    package: str  # to install for it
    open: Callable[[Path], Session]
    largest_input: int | None = None  # pixels, over the whole batch, that take a reasonable time; None: no limit


def open_onnxruntime(path: Path, level: str = "ORT_ENABLE_ALL", threads: int = 0) -> Session:
    """`path` in onnxruntime on the CPU.

    Args:
        path: of the ONNX file.
        level: of optimization; the default is onnxruntime's own.
        threads: 0 for one per core.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Threads that spin while they wait slow down whatever else computes on the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda noisy: session.run([OUTPUT], {INPUT: noisy})[0]


def open_reference(path: Path) -> Session:
    """`path` in ONNX's own evaluator: NumPy written from the specification, slow, and independent of all runtimes."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(path))

    def run(noisy: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):  # NaN and overflow may be among the inputs
            return evaluator.run([OUTPUT], {INPUT: noisy})[0]

    return run


def _open_tract(path: Path) -> Session:
    import tract

    model = tract.onnx().load(str(path)).into_model().into_runnable()
    return lambda noisy: model.run([np.ascontiguousarray(noisy)])[0].to_numpy()


def _open_opencv(path: Path) -> Session:
    import cv2

    net = cv2.dnn.readNetFromONNX(str(path))

    def run(noisy: np.ndarray) -> np.ndarray:
        net.setInput(noisy, INPUT)
        return net.forward(OUTPUT)

    return run


def _open_openvino(path: Path) -> Session:
    import openvino

    # By default it computes in bfloat16 on processors that support it, with errors of 7e-3.
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda noisy: compiled([noisy])[OUTPUT]


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime("onnxruntime", "onnxruntime", open_onnxruntime),
    "reference": Runtime("onnx", "onnx", open_reference, largest_input=4096),
    "tract": Runtime("tract", "tract", _open_tract),
    "opencv": Runtime("cv2", "opencv-python-headless", _open_opencv),
    "openvino": Runtime("openvino", "openvino", _open_openvino),
}


def verify(folder: Path, runtimes: Sequence[str]) -> list[Gate]:
    """Run every check of a hand-off folder, in order. No runtime opens a file if an earlier check failed.

    Args:
        folder: the hand-off folder.
        runtimes: keys of `RUNTIMES`, all installed.
    """
    try:
        gates = list(_check_files(folder))
    except OSError as error:
        return [failed("is readable", "folder", error)]
    if not _passed(gates):
        return gates
    try:
        models = json.loads((folder / MANIFEST).read_text())["models"]
        files = sorted(path.name for path in folder.glob("*.onnx"))
        gates.append(equal("files described", MANIFEST, sorted(model["file"] for model in models), files))
        for model in models if _passed(gates) else []:
            gates.extend(_check_model(folder, model))
    except (OSError, KeyError, TypeError, ValueError) as error:
        return [*gates, failed("is complete", MANIFEST, error)]
    if not _passed(gates):
        return gates
    for name in runtimes:
        for model in models:
            if "runtimes" not in model or name in model["runtimes"]:
                gates.extend(_check_outputs(folder, model, name))
    return gates


def check_structure(path: Path, channels: int, dtype: str = "float32", output_dtype: str = "") -> Iterator[Gate]:
    """Check without running it that a file is safe, valid, self-contained, and has the right inputs and outputs.

    Args:
        path: of the ONNX file. Its weights are read only after checking that they are inside.
        channels: C of the images.
        dtype: of the input.
        output_dtype: of the output; "" means the same.
    """
    where = path.name
    if (size := path.stat().st_size) > MAX_BYTES:
        yield Gate("size", where, f"{size:,} bytes", f"at most {MAX_BYTES:,} bytes", False)
        return
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as error:
        yield failed("is an ONNX file", where, error)
        return
    graphs = list(_graphs(proto.graph))
    external = [
        tensor.name
        for graph in graphs
        for tensor in _tensors(graph)
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data
    ]
    opsets = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    domains = {node.domain for graph in graphs for node in graph.node} | {entry.domain for entry in proto.functions}
    safe = [
        equal("tensors with external data", where, external, []),
        equal("custom domains", where, sorted((domains | set(opsets)) - {"", "ai.onnx"}), []),
    ]
    yield from safe
    if not _passed(safe):
        return
    try:
        onnx.checker.check_model(path, full_check=True)
        yield Gate("onnx checker", where, "valid", "valid", True)
    except Exception as error:
        yield failed("onnx checker", where, error)
    yield equal("opset", where, opsets, {"ai.onnx": OPSET})
    yield equal("IR version", where, proto.ir_version, IR_VERSION)
    traces = [node.name for graph in graphs for node in graph.node if node.metadata_props or node.doc_string]
    yield equal("nodes with traces of the build machine", where, traces, [])
    for kind, values, name, wanted in (
        ("inputs", proto.graph.input, INPUT, dtype),
        ("outputs", proto.graph.output, OUTPUT, output_dtype or dtype),
    ):
        shape = f"{name}: {wanted} [batch, {channels}, height, width]"
        yield equal(kind, where, [_describe(value) for value in values], [shape])


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


def failed(name: str, where: str, error: Exception) -> Gate:
    """A gate that failed with an error."""
    text = " ".join(str(error).split())[:200].replace("|", "/")
    return Gate(name, where, f"{type(error).__name__}: {text}", "no error", False)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def psnr_between(images: np.ndarray, others: np.ndarray) -> float:
    """PSNR in dB between two batches of images in [0, 1], data range 1; infinite if they are equal."""
    with np.errstate(divide="ignore"):
        return float(-10 * np.log10(np.square(images.astype(np.float64) - others.astype(np.float64)).mean()))


def _check_files(folder: Path) -> Iterator[Gate]:
    """Check that every file is there and unchanged, and that there are no others."""
    paths = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    present = {path.relative_to(folder).as_posix(): path for path in paths}
    links = [name for name, path in present.items() if path.is_symlink() or path.lstat().st_nlink > 1]
    yield equal("links to other files", "folder", links, [])
    special = [name for name, path in present.items() if name not in links and not path.is_file()]
    yield equal("devices and pipes", "folder", special, [])
    if links or special:
        return
    try:
        lines = [line.split("  ", 1) for line in (folder / SUMS).read_text().splitlines()]
        sums = {name: digest for digest, name in lines}
        # The files that the demo page needs are fetched when it is served; their sums are in the manifest.
        fetched = json.loads((folder / MANIFEST).read_text()).get("fetched", {})
        outside = [name for name in (*sums, *fetched) if PurePosixPath(name).is_absolute() or ".." in name]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        yield failed("is readable", f"{SUMS} and {MANIFEST}", error)
        return
    yield equal("paths that leave the folder", SUMS, outside, [])
    yield equal("missing files", "folder", sorted(set(sums) - set(present)), [])
    yield equal("unlisted files", "folder", sorted(set(present) - set(sums) - set(fetched) - {SUMS}), [])
    known = {**fetched, **sums}
    changed = [name for name in present if name in known and sha256_file(present[name]) != known[name]]
    yield equal("files that do not match their checksums", f"{len(sums)} files", changed, [])


def _check_model(folder: Path, model: dict[str, Any]) -> Iterator[Gate]:
    path = folder / model["file"]
    found, wanted = sha256_file(path), str(model["sha256"])
    yield Gate("checksum in the manifest", model["file"], f"{found[:16]}…", f"{wanted[:16]}…", found == wanted)
    yield from check_structure(path, model["input"]["shape"][1], model["input"]["dtype"], model["output"]["dtype"])


def _check_outputs(folder: Path, model: dict[str, Any], runtime_name: str) -> Iterator[Gate]:
    """Run the golden inputs, at once and image by image, and compare with the golden outputs."""
    runtime = RUNTIMES[runtime_name]
    where = f"{runtime_name}: {model['file']}"
    try:
        session = runtime.open(folder / model["file"])
        for data in (model["test_data"], *model.get("more_test_data", ())):
            noisy, wanted = (_read_tensor(folder / data / f"{name}_0.pb") for name in ("input", "output"))
            if runtime.largest_input:
                count = runtime.largest_input // noisy[0].size or int(data == model["test_data"])
                noisy, wanted = noisy[:count], wanted[:count]
            size, alone = f"{noisy.shape[2]}x{noisy.shape[3]}", [session(image[np.newaxis]) for image in noisy]
            if alone:
                kind = f"{where}: {len(noisy)} golden images of {size}"
                yield _compare(kind, session(noisy), wanted, model["tolerance"])
                yield _compare(f"{where}: {size}, one by one", np.concatenate(alone), wanted, model["tolerance"])
    except Exception as error:  # every runtime has its own kinds of errors
        yield failed("runs", where, error)


def _compare(where: str, found: np.ndarray, wanted: np.ndarray, tolerance: dict[str, float]) -> Gate:
    kind, wanted_kind = (f"{array.dtype} {list(array.shape)}" for array in (found, wanted))
    if kind != wanted_kind:
        return Gate("type and shape", where, kind, wanted_kind, False)
    if "psnr" in tolerance:
        return at_least("PSNR against the golden output", where, psnr_between(found, wanted), tolerance["psnr"], " dB")
    difference = np.abs(found.astype(np.float64) - wanted.astype(np.float64)).max(initial=0)
    return at_most("difference from the golden output", where, float(difference), tolerance["max_abs"])


def _read_tensor(path: Path) -> np.ndarray:
    return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _graphs(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)


def _describe(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "unknown"
    sizes = [dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim]
    return f"{value.name}: {kind} [{', '.join(sizes)}]"


def _text(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    rest = f" and {len(value) - 5:,} more" if len(value) > 5 else ""
    return ", ".join(map(str, value[:5])) + rest if value else "none"


def _passed(gates: Sequence[Gate]) -> bool:
    return all(gate.passed for gate in gates)


def is_installed(runtime: str) -> bool:
    return find_spec(RUNTIMES[runtime].module) is not None


def report(folder: Path, choice: str) -> tuple[str, str, int]:
    """Verify `folder`: the table to print, the line that says what failed ("" if nothing did), and the exit code.

    Args:
        folder: the hand-off folder.
        choice: a key of `RUNTIMES`, or "all" for every one that is installed.
    """
    if not (folder / SUMS).is_file():
        return "", f"{folder} is not a hand-off folder: it has no file {SUMS}", 2
    runtimes = [name for name in RUNTIMES if is_installed(name)] if choice == "all" else [choice]
    missing = [name for name in (RUNTIMES if choice == "all" else [choice]) if not is_installed(name)]
    if choice != "all" and missing:
        return "", f"{choice} is not installed; run: pip install {RUNTIMES[choice].package}", 1
    gates = verify(folder, runtimes)
    rows = [(gate.gate, gate.where, gate.value, gate.limit, "ok" if gate.passed else "FAILED") for gate in gates]
    rows = [("check", "where", "found", "allowed", ""), *rows]
    widths = [min(64, max(len(row[column]) for row in rows)) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"not run: {name} is not installed (pip install {RUNTIMES[name].package})" for name in missing]
    failures = [gate for gate in gates if not gate.passed]
    if failures:
        first = failures[0]
        why = f"{first.gate} ({first.where}): {first.value}; allowed: {first.limit}"
        return "\n".join(lines), f"{folder}: {len(failures)} of {len(gates)} checks failed, the first: {why}", EXIT_CODE
    digest = next(line.split()[0] for line in (folder / SUMS).read_text().splitlines() if line.endswith(f"  {MODEL}"))
    lines.append(
        f"verify: {folder}: {len(gates)} checks passed, in {', '.join(runtimes)}; SHA-256 of {MODEL}: {digest}"
    )
    return "\n".join(lines), "", 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(__file__).parent, help="default: the folder of this file"
    )
    parser.add_argument("--runtime", choices=[*RUNTIMES, "all"], default="onnxruntime")
    arguments = parser.parse_args()
    table, error, code = report(arguments.folder, arguments.runtime)
    if table:
        print(table)
    if error:
        print(f"Error: {error}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
