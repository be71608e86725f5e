"""onnxruntime-web for the demo page of a hand-off: two files of an npm package, fetched once and cached."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import cache_folder, new_folder, sha256_file

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
FOLDER = "demo/ort"  # in the hand-off
# SHA-256 by path in the hand-off. The WebAssembly build that needs neither threads nor a GPU.
FETCHED = {
    f"{FOLDER}/ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    f"{FOLDER}/ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}


def add_onnxruntime_web(folder: Path) -> None:
    """Add the two files to the hand-off folder unless they are there, from the cache or else from npm.

    Raises:
        PipelineError: npm is not installed or could not fetch them, or a file does not match its checksum.
    """
    if all((folder / name).is_file() and sha256_file(folder / name) == digest for name, digest in FETCHED.items()):
        return
    cache = cache_folder() / PACKAGE
    if not cache.is_dir():
        _fetch(cache)
    with new_folder(folder / FOLDER) as new:
        for name, digest in FETCHED.items():
            file = cache / Path(name).name
            if not file.is_file() or sha256_file(file) != digest:
                raise PipelineError(f"{file} is missing or damaged; delete {cache} and try again")
            shutil.copy(file, new)


def _fetch(cache: Path) -> None:
    """Fill the cache from the npm registry (33 MB)."""
    npm = shutil.which("npm")
    if npm is None:
        raise PipelineError(
            f"{PACKAGE} is fetched with npm, which is not installed; install Node.js, or copy the files "
            f"{' and '.join(Path(name).name for name in FETCHED)} of that package to {cache}"
        )
    with tempfile.TemporaryDirectory() as scratch, new_folder(cache) as new:
        done = subprocess.run([npm, "pack", "--loglevel=error", PACKAGE], cwd=scratch, capture_output=True, text=True)
        archives = list(Path(scratch).glob("*.tgz"))
        if done.returncode or not archives:
            reason = " ".join((done.stderr or done.stdout).replace("npm error", "").split())[:200]
            raise PipelineError(f"npm could not fetch {PACKAGE}: {reason}")
        with tarfile.open(archives[0]) as archive:
            for name in FETCHED:
                member = archive.extractfile(f"package/dist/{Path(name).name}")
                assert member is not None
                (new / Path(name).name).write_bytes(member.read())
