"""The golden images through a runtime, in a process of its own: it can be ended, and its end is not that of others."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx

from .forms import File, Form
from .gates import Gate, at_least, at_most, failed
from .runtimes import RUNTIMES, Session

SECONDS = 120  # for one answer, which takes a few seconds
MEMORY = 16 * 2**30  # bytes of address space, where the system can limit it; most of it is reserved and never used
LARGE_SIDE, LARGE_BATCH = 128, 8  # what golden images must exceed
BATCH = 601  # of images that are run together; a file was right up to 600
CUT = 16  # pixels, by which tile and image differ; a multiple of the strides of every model
TILE_MAX_ABS = 1e-4  # between a tile and the whole image: less than a sixteenth of a step of 8 bits

_ROOT = Path(__file__).resolve().parents[__name__.count(".")]  # what the first part of this module's name is in


def check_outputs(folder: Path, files: Sequence[File], runtime: str, seconds: float = SECONDS) -> Iterator[Gate]:
    """Run the golden inputs, at once and image by image, and compare with the golden outputs.

    Args:
        folder: the hand-off folder.
        files: of the folder, all of which the runtime can open.
        runtime: a key of `RUNTIMES`, installed.
        seconds: how long each answer may take.
    """
    command = [sys.executable, "-B", "-m", __name__]
    with subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin:
                of = [asdict(file) for file in files]
                json.dump({"folder": str(folder.resolve()), "runtime": runtime, "files": of}, process.stdin)
            yield from _answers(process, runtime, seconds)
        finally:
            process.kill()


def _answers(process: subprocess.Popen[str], runtime: str, seconds: float) -> Iterator[Gate]:
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=seconds)
        except queue.Empty:
            yield Gate("answers", runtime, f"nothing for {seconds:g} s", f"an answer every {seconds:g} s", False)
            return
        if not line:
            break
        yield Gate(**json.loads(line))
    if process.wait() != 0:
        yield Gate("answers", runtime, f"its process ended with code {process.returncode}", "code 0", False)


def _check_file(folder: Path, file: File, runtime_name: str) -> Iterator[Gate]:
    runtime = RUNTIMES[runtime_name]
    where = f"{runtime_name}: {file.name}"
    try:
        session = runtime.open(folder / file.name)
        golden = [[_read_tensor(folder / data / f"{name}_0.pb") for name in ("input", "output")] for data in file.tests]
        if file.variant == "float32":
            yield _check_sizes([noisy.shape for noisy, _ in golden], where)
        for data, (noisy, wanted) in zip(file.tests, golden, strict=True):
            if runtime.largest_input:
                count = runtime.largest_input // noisy[0].size or int(data == file.tests[0])
                noisy, wanted = noisy[:count], wanted[:count]
            size, alone = f"{noisy.shape[2]}x{noisy.shape[3]}", [session(image[np.newaxis]) for image in noisy]
            if alone:
                yield _compare(f"{where}: {len(noisy)} golden images of {size}", session(noisy), wanted, file.form)
                yield _compare(f"{where}: {size}, one by one", np.concatenate(alone), wanted, file.form)
        if not runtime.largest_input:
            noisy, wanted = min(golden, key=lambda pair: pair[0][0].size)
            many = np.arange(BATCH) % len(noisy)
            yield _compare(f"{where}: a batch of {BATCH}", session(noisy[many]), wanted[many], file.form)
            if file.variant == "float32":
                yield _check_halo(session, golden[0][0], file.halo, where)
    except Exception as error:  # every runtime has its own kinds of errors
        yield failed("runs", where, error)


def _check_sizes(shapes: Sequence[tuple[int, ...]], where: str) -> Gate:
    """That the golden images of the float file, [N, C, H, W], are of sizes at which files have been wrong."""
    sides = [side for shape in shapes for side in shape[2:]]
    wide = (
        any(side % 2 for side in sides) and max(sides) > LARGE_SIDE and max(shape[0] for shape in shapes) > LARGE_BATCH
    )
    found = ", ".join("x".join(map(str, shape)) for shape in shapes)
    wanted = f"an odd side, one above {LARGE_SIDE}, and a batch above {LARGE_BATCH}"
    return Gate("sizes of golden images", where, found, wanted, wide)


def _check_halo(session: Session, images: np.ndarray, halo: int, where: str) -> Gate:
    """That a tile of an image gives what the whole image gives, further than the halo from where it was cut.

    Args:
        session: of the float file.
        images: noisy ones [N, C, H, W]; one large image is made of the first.
        halo: in pixels.
        where: what the gate says of the file and the runtime.
    """
    side = halo + 2 * CUT
    image = np.tile(images[:1], (1, 1, *(-(-side // have) for have in images.shape[2:])))[..., :side, :side]
    whole, keep = session(np.ascontiguousarray(image)), halo + CUT
    below = session(np.ascontiguousarray(image[..., CUT:, CUT:]))[..., halo:, halo:] - whole[..., keep:, keep:]
    above = session(np.ascontiguousarray(image[..., :-CUT, :-CUT]))[..., :CUT, :CUT] - whole[..., :CUT, :CUT]
    difference = float(max(np.abs(below).max(), np.abs(above).max()))
    return at_most(f"a tile with a halo of {halo} pixels equals the whole", where, difference, TILE_MAX_ABS)


def _compare(where: str, found: np.ndarray, wanted: np.ndarray, form: Form) -> Gate:
    kind, wanted_kind = (f"{array.dtype} {list(array.shape)}" for array in (found, wanted))
    if kind != wanted_kind:
        return Gate("type and shape", where, kind, wanted_kind, False)
    if form.psnr is not None:
        return at_least("PSNR against the golden output", where, psnr_between(found, wanted), form.psnr, " dB")
    difference = np.abs(found.astype(np.float64) - wanted.astype(np.float64)).max(initial=0)
    return at_most("difference from the golden output", where, float(difference), form.max_abs or 0.0)


def psnr_between(images: np.ndarray, others: np.ndarray) -> float:
    """PSNR in dB between two batches of images in [0, 1], data range 1; infinite if they are equal."""
    with np.errstate(divide="ignore"):
        return float(-10 * np.log10(np.square(images.astype(np.float64) - others.astype(np.float64)).mean()))


def _read_tensor(path: Path) -> np.ndarray:
    tensor = onnx.TensorProto.FromString(path.read_bytes())
    if tensor.data_location or tensor.external_data:
        raise ValueError(f"{path.name}: its values are in another file")
    return onnx.numpy_helper.to_array(tensor)


def _serve() -> None:
    """Read what to run from standard input, and write a line for every gate."""
    request = json.load(sys.stdin)
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # some runtimes print
        for file in request["files"]:
            for gate in _check_file(Path(request["folder"]), File(**file), request["runtime"]):
                out.write(json.dumps(asdict(gate)) + "\n")
                out.flush()


if __name__ == "__main__":
    _serve()
