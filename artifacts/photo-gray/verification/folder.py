"""A hand-off folder: are its files complete and unchanged, and is each what the manifest says?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from .facts import CARD, check_facts
from .forms import File
from .gates import Gate, all_passed, equal, failed, no_more, none_of
from .graph import check_structure
from .outputs import SECONDS, check_outputs

MODEL, MANIFEST, SUMS = "model.onnx", "manifest.json", "SHA256SUMS"
REQUIRED = (MODEL, MANIFEST, CARD, "verify.py", "parity_report.json", "parity_report.md", "LICENSE")
MAX_TEXT = 16 * 2**20  # bytes of the manifest and of the checksums: a thousand times what they have
MAX_GOLDEN = 64 * 2**20  # bytes of a file of golden data
_LEFT_BEHIND = (".DS_Store", "._", "Thumbs.db", "desktop.ini", ".directory")  # by file managers


def verify(folder: Path, runtimes: Sequence[str], seconds: float = SECONDS) -> list[Gate]:
    """Run every check of a hand-off folder, in order. No runtime opens a file if an earlier check failed.

    Args:
        folder: the hand-off folder.
        runtimes: keys of `RUNTIMES`, all installed.
        seconds: how long a runtime may take for an answer.
    """
    gates: list[Gate] = []
    try:
        gates += _check_files(folder)
        if all_passed(gates):
            manifest = _read_json(folder / MANIFEST)
            files = [File.read(entry, manifest.get("halo")) for entry in manifest["models"]]
            gates += _check_manifest(folder, files)
            for file, entry in zip(files, manifest["models"], strict=True) if all_passed(gates) else ():
                gates += check_facts(folder, file, manifest, entry)
    except Exception as error:  # what a stranger wrote can be wrong in any way
        return [*gates, failed("can be read", "folder", error)]
    for name in runtimes if all_passed(gates) else ():
        able = [file for file in files if name not in file.form.lacking]
        found = [*check_outputs(folder, able, name, seconds)]
        gates += found
        if all_passed(found):  # nothing that passed may mean that nothing was compared
            where = f"{name}: {MODEL}"
            compared = sum(gate.where.startswith(f"{where}: ") for gate in found)
            gates.append(Gate("golden outputs compared", where, str(compared), "at least 1", compared > 0))
    return gates


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_files(folder: Path) -> Iterator[Gate]:
    """Check that every file is there and unchanged, and that there are no others."""
    paths = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    present = {path.relative_to(folder).as_posix(): path for path in paths}
    links = [name for name, path in present.items() if path.is_symlink() or path.lstat().st_nlink > 1]
    yield none_of("links to other files", "folder", links, "if a sync tool made them, copy the folder elsewhere first")
    special = [name for name, path in present.items() if name not in links and not path.is_file()]
    yield none_of("devices and pipes", "folder", special)
    if links or special:
        return
    for name in (SUMS, MANIFEST):
        if name in present:
            yield no_more("bytes", name, present[name].stat().st_size, MAX_TEXT)
            if present[name].stat().st_size > MAX_TEXT:
                return
    try:
        lines = [line.split("  ", 1) for line in (folder / SUMS).read_text(encoding="utf-8").splitlines()]
        sums = {name: digest for digest, name in lines}
        # The files that the demo page needs are fetched when it is served; their sums are in the manifest.
        fetched = dict(_read_json(folder / MANIFEST).get("fetched", {}))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        yield failed("is readable", f"{SUMS} and {MANIFEST}", error)
        return
    outside = [name for name in (*sums, *fetched) if not is_inside(name)]
    yield none_of("paths that leave the folder", SUMS, outside)
    yield none_of("missing files", "folder", sorted({*sums, *REQUIRED} - {*present}))
    unlisted = sorted({*present} - {*sums, *fetched, SUMS})
    behind = any(PurePosixPath(name).name.startswith(_LEFT_BEHIND) for name in unlisted)
    advice = "delete what a file manager has left behind" if behind else ""
    yield none_of("unlisted files", "folder", unlisted, advice)
    known = {**fetched, **sums}
    changed = [name for name in present if name in known and sha256_file(present[name]) != known[name]]
    yield none_of("files that do not match their checksums", f"{len(sums)} files", changed)


def is_inside(name: str) -> bool:
    """Whether a relative path, as it is written, stays inside its folder on every system."""
    path = PurePosixPath(name)
    return not (path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name)


def _check_manifest(folder: Path, files: Sequence[File]) -> Iterator[Gate]:
    """Check that the manifest describes every ONNX file, by names inside the folder and limits that are those here."""
    found = sorted(path.name for path in folder.glob("*.onnx"))
    gates = [equal("files described", MANIFEST, sorted(file.name for file in files), found)]
    gates.append(equal("float model", MANIFEST, [file.name for file in files if file.variant == "float32"], [MODEL]))
    listed = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.pb")}
    golden = [f"{data}/{name}_0.pb" for file in files for data in file.tests for name in ("input", "output")]
    gates.append(none_of("golden data that are not in the folder", MANIFEST, sorted({*golden} - {*listed})))
    largest = max((path.stat().st_size for path in listed.values()), default=0)
    gates.append(no_more("bytes of golden data in one file", "folder", largest, MAX_GOLDEN))
    gates += [equal("tolerance", f"{MANIFEST}: {file.name}", file.tolerance, file.form.tolerance) for file in files]
    yield from gates
    for file in files if all_passed(gates) else ():
        digest = sha256_file(folder / file.name)
        is_same = digest == file.sha256
        yield Gate("checksum in the manifest", file.name, f"{digest:.16}…", f"{file.sha256:.16}…", is_same)
        yield from check_structure(folder / file.name, file.channels, file.form.dtype)


def _read_json(path: Path) -> dict[str, Any]:
    """Raises `ValueError` for whatever is not a JSON object."""
    try:
        content = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError(f"{path.name} is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return content
