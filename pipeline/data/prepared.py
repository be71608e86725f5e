"""Prepared data: training, validation and test images and a manifest, in one folder that is complete or absent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock

from pipeline.config import Config
from pipeline.data.images import Images, as_images, describe_sizes
from pipeline.data.sources import DATASETS
from pipeline.errors import PipelineError
from pipeline.files import new_folder, sha256_bytes, sha256_file

PARTS = ("train", "validation", "test")
_MANIFEST = "manifest.json"
_LABELS = "test_labels.npy"
_FILES = {*(f"{part}{suffix}" for part in PARTS for suffix in (".npy", ".npz")), _LABELS}

_CHUNK = 2**26  # bytes of images to write at a time

Part = tuple[Images, np.ndarray]
"""Images, and the indices of the ones that belong to the part, in order."""


@dataclass(frozen=True)
class PreparedData:
    """The images of a dataset, split. Arrays are memory-mapped, so that only what is read takes memory."""

    train: Images
    validation: Images
    test: Images
    manifest: dict[str, Any]
    test_labels: np.ndarray | None = None  # uint8 [N]: the class of each test image, where the dataset knows it

    @property
    def digest(self) -> str:
        """SHA-256 over all images of all three parts, as 64 hex digits."""
        return self.manifest["digest"]

    @property
    def test_digest(self) -> str:
        """SHA-256 of the test images, as 64 hex digits: only results on the same images can be compared."""
        files = self.manifest["files"]
        return files["test.npy" if "test.npy" in files else "test.npz"]["sha256"]

    def describe(self) -> str:
        sizes = describe_sizes(self.train, self.validation, self.test)
        return (
            f"{len(self.train):,} training, {len(self.validation):,} validation and {len(self.test):,} test images "
            f"of {sizes}{'' if self.train[0].shape[0] == 1 else ' in colour'}"
        )


def prepared_folder(config: Config) -> Path:
    """The folder for the prepared form of `config.dataset`, split by `config.seed`."""
    name = config.dataset
    if name not in DATASETS:
        path = Path(name).resolve()
        # Two folders may share a name; the digest of the path keeps them apart.
        name = f"{path.name or 'root'}-{sha256_bytes(str(path).encode())[:8]}"
    colour = "" if config.channels == 1 else "-rgb"
    return Path(config.data_dir) / "prepared" / f"{name}{colour}-seed{config.seed}"


def prepared_lock(config: Config) -> FileLock:
    """The lock to hold while the prepared data are written or read; a process that holds it can acquire it again."""
    folder = prepared_folder(config)
    return FileLock(folder.with_name(f".{folder.name}.lock"), is_singleton=True)


def write_prepared(
    config: Config, parts: Mapping[str, Part], labels: np.ndarray | None, facts: dict[str, Any]
) -> PreparedData:
    """Write all parts, the labels of the test images, and a manifest with `facts` added: everything or nothing.

    Args:
        config: decides the folder.
        parts: for each of `PARTS`, its images.
        labels: the class of each test image, uint8 [N]; None if unknown.
        facts: where the images come from, for the manifest.

    Raises:
        PipelineError: a file cannot be written.
    """
    folder = prepared_folder(config)
    with new_folder(folder) as new:
        files = {}
        for name, (images, chosen) in parts.items():
            taken = images if isinstance(images, np.ndarray) else as_images([images[index] for index in chosen])
            path = new / f"{name}{'.npz' if isinstance(taken, list) else '.npy'}"
            with _says_why(folder / path.name):
                if isinstance(taken, list):
                    np.savez(path, *taken)
                    files[path.name] = {"images": len(taken), "sizes": describe_sizes(taken), "dtype": "uint8"}
                else:
                    shape = _write_array(path, taken, chosen if taken is images else np.arange(len(taken)))
                    files[path.name] = {"shape": list(shape), "dtype": "uint8"}
        if labels is not None:
            with _says_why(folder / _LABELS):
                np.save(new / _LABELS, labels)
                files[_LABELS] = {"shape": list(labels.shape), "dtype": str(labels.dtype)}
        for name, entry in files.items():
            entry["sha256"] = sha256_file(new / name)
        manifest = {**facts, "files": files, "digest": _digest(files)}
        (new / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return PreparedData(**_read(folder, files), manifest=manifest)


def _write_array(path: Path, images: np.ndarray, chosen: np.ndarray) -> tuple[int, ...]:
    """Write the images at the indices `chosen` as an `.npy` file, a few at a time; return the shape."""
    shape = (len(chosen), *images.shape[1:])
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": np.lib.format.dtype_to_descr(images.dtype), "fortran_order": False, "shape": shape}
        )
        for numbers in np.array_split(chosen, max(1, len(chosen) * images[0].nbytes // _CHUNK)):
            file.write(images[numbers].tobytes())
    return shape


@contextmanager
def _says_why(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or f"{error} (is the disk full?)"  # from NumPy, which gives no reason
        raise PipelineError(f"cannot write {path}: {reason}") from error


def read_manifest(config: Config) -> dict[str, Any] | None:
    """The manifest of the prepared data, or None where none was prepared."""
    path = prepared_folder(config) / _MANIFEST
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise PipelineError(f"cannot read {path}: {error}") from error


def load_prepared(config: Config) -> PreparedData:
    """Read what `prepare` left, and verify every file against the manifest.

    Raises:
        PipelineError: nothing was prepared, or a file is missing, damaged, or not the one in the manifest.
    """
    folder = prepared_folder(config)
    if not (folder / _MANIFEST).exists():
        raise PipelineError(
            f"there are no prepared data in {folder}; run: python -m pipeline prepare --dataset {config.dataset} "
            f"--seed {config.seed} --data-dir {config.data_dir}"
            + ("" if config.channels == 1 else f" --channels {config.channels}")
        )
    try:
        with prepared_lock(config):
            return _load(folder, read_manifest(config) or {})
    except (OSError, KeyError, TypeError, ValueError, BadZipFile) as error:
        raise PipelineError(f"the prepared data in {folder} are incomplete: {error}") from error


def _load(folder: Path, manifest: dict[str, Any]) -> PreparedData:
    if manifest["digest"] != _digest(manifest["files"]):
        raise PipelineError(f"{folder / _MANIFEST} is damaged: its digest does not match its files")
    for name, facts in manifest["files"].items():
        if name not in _FILES:
            raise PipelineError(f"{folder / _MANIFEST} is damaged: it names an unknown file {name}")
        path = folder / name
        digest = sha256_file(path)
        if digest != facts["sha256"]:
            raise PipelineError(f"{path} is damaged: its SHA-256 is {digest}, it must be {facts['sha256']}")
    return PreparedData(**_read(folder, manifest["files"]), manifest=manifest)


def _read(folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """The content of every file, by its name without the suffix."""
    content: dict[str, Any] = {}
    for path in (folder / name for name in names):
        # Read-only: a writable mapping must not be larger than the memory.
        loaded = np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
        content[path.stem] = loaded if path.suffix == ".npy" else list(loaded.values())
    return content


def _digest(files: dict[str, dict[str, Any]]) -> str:
    """Covers the images of all parts, but not the labels, which no model is trained on."""
    names = {Path(name).stem: name for name in files}
    lines = "".join(f"{files[names[part]]['sha256']}  {part}\n" for part in PARTS)
    return hashlib.sha256(lines.encode()).hexdigest()
