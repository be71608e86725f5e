"""Prepared data: three arrays of images and a manifest, in one folder that is whole or not there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.datasets import DATASETS
from pipeline.errors import PipelineError
from pipeline.files import new_folder, sha256_bytes, sha256_file

PARTS = ("train", "validation", "test")
_MANIFEST = "manifest.json"


Images = np.ndarray | list[np.ndarray]


@dataclass(frozen=True)
class PreparedData:
    """The images of a dataset, split: uint8 [N, 1, H, W], one byte a pixel, 0 black and 255 white."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    manifest: dict[str, Any]
    test_labels: np.ndarray | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over all images of all three parts, as 64 hex digits."""
        return self.manifest["digest"]

    def describe(self) -> str:
        height, width = self.train.shape[2:]
        return (
            f"{len(self.train):,} training, {len(self.validation):,} validation and {len(self.test):,} test images "
            f"of {height}x{width}"
        )


def prepared_folder(config: Config) -> Path:
    """Where the prepared form of `config.dataset`, split by `config.seed`, is kept."""
    name = config.dataset
    if name not in DATASETS:
        path = Path(name).resolve()
        # Two folders may share a name; the digest of the path keeps them apart.
        name = f"{path.name or 'root'}-{sha256_bytes(str(path).encode())[:8]}"
    return Path(config.data_dir) / "prepared" / f"{name}-seed{config.seed}"


def write_prepared(config: Config, images: dict[str, np.ndarray], facts: dict[str, Any]) -> PreparedData:
    """Write `images` (uint8 [N, H, W], by part) and a manifest with `facts`, as a whole or not at all."""
    folder = prepared_folder(config)
    arrays = {part: np.ascontiguousarray(images[part][:, np.newaxis]) for part in PARTS}
    with new_folder(folder) as new:
        files = {}
        for part, array in arrays.items():
            path = new / f"{part}.npy"
            try:
                np.save(path, array)
            except OSError as error:
                raise PipelineError(f"cannot write {folder / path.name}: {error}") from error
            files[path.name] = {"sha256": sha256_file(path), "shape": list(array.shape), "dtype": str(array.dtype)}
        manifest = {**facts, "files": files, "digest": _digest(files)}
        (new / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return PreparedData(**arrays, manifest=manifest)


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
        PipelineError: nothing was prepared, or a file is missing, damaged or swapped.
    """
    folder = prepared_folder(config)
    manifest = read_manifest(config)
    if manifest is None:
        raise PipelineError(
            f"no prepared data in {folder}; run: python -m pipeline prepare --dataset {config.dataset} "
            f"--seed {config.seed} --data-dir {config.data_dir}"
        )
    arrays = {}
    try:
        if manifest["digest"] != _digest(manifest["files"]):
            raise PipelineError(f"{folder / _MANIFEST} is damaged: its digest does not match its files")
        for part in PARTS:
            path = folder / f"{part}.npy"
            expected = manifest["files"][path.name]["sha256"]
            digest = sha256_file(path)
            if digest != expected:
                raise PipelineError(f"{path} is damaged: its SHA-256 is {digest}, it must be {expected}")
            arrays[part] = np.load(path, allow_pickle=False)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise PipelineError(f"prepared data in {folder} is incomplete: {error}") from error
    return PreparedData(**arrays, manifest=manifest)


def _digest(files: dict[str, dict[str, Any]]) -> str:
    lines = "".join(f"{files[f'{part}.npy']['sha256']}  {part}\n" for part in PARTS)
    return hashlib.sha256(lines.encode()).hexdigest()
