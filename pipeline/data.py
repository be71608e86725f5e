"""Prepared data: three arrays of images and a manifest, in one folder that is whole or not there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock

from pipeline.config import Config
from pipeline.datasets import DATASETS
from pipeline.errors import PipelineError
from pipeline.files import new_folder, sha256_bytes, sha256_file

SMALLEST_SIDE = 11  # pixels: the window of SSIM
PARTS = ("train", "validation", "test")
_MANIFEST = "manifest.json"
_LABELS = "test_labels.npy"
_FILES = {*(f"{part}{suffix}" for part in PARTS for suffix in (".npy", ".npz")), _LABELS}

Images = np.ndarray | list[np.ndarray]
"""uint8 [N, C, H, W] where all images have one size, else a list of uint8 [C, H, W]; 0 is black and 255 white."""


def as_images(images: list[np.ndarray]) -> Images:
    """A list of uint8 [C, H, W], as one array if they all have one size."""
    return np.stack(images) if len({image.shape for image in images}) == 1 else images


def describe_sizes(images: Images) -> str:
    """Height x width, smallest to largest: `28x28`, or `300x451 to 1080x1920`."""
    sizes = sorted({image.shape[1:] for image in images}, key=lambda size: (size[0] * size[1], size))
    texts = [f"{height}x{width}" for height, width in (sizes[0], sizes[-1])]
    return texts[0] if len(sizes) == 1 else " to ".join(texts)


@dataclass(frozen=True)
class PreparedData:
    """The images of a dataset, split."""

    train: Images
    validation: Images
    test: Images
    manifest: dict[str, Any]
    test_labels: np.ndarray | None = None  # uint8 [N]: the class of each test image, where the dataset knows it

    @property
    def digest(self) -> str:
        """SHA-256 over all images of all three parts, as 64 hex digits."""
        return self.manifest["digest"]

    def describe(self) -> str:
        sizes = describe_sizes([*self.train, *self.validation, *self.test])
        return (
            f"{len(self.train):,} training, {len(self.validation):,} validation and {len(self.test):,} test images "
            f"of {sizes}{'' if self.train[0].shape[0] == 1 else ' in colour'}"
        )


def prepared_folder(config: Config) -> Path:
    """Where the prepared form of `config.dataset`, split by `config.seed`, is kept."""
    name = config.dataset
    if name not in DATASETS:
        path = Path(name).resolve()
        # Two folders may share a name; the digest of the path keeps them apart.
        name = f"{path.name or 'root'}-{sha256_bytes(str(path).encode())[:8]}"
    colour = "" if config.channels == 1 else "-rgb"
    return Path(config.data_dir) / "prepared" / f"{name}{colour}-seed{config.seed}"


def prepared_lock(config: Config) -> FileLock:
    """Held while the prepared data are written or read; who holds it already gets it again."""
    folder = prepared_folder(config)
    return FileLock(folder.with_name(f".{folder.name}.lock"), is_singleton=True)


def write_prepared(
    config: Config, parts: dict[str, Images], labels: np.ndarray | None, facts: dict[str, Any]
) -> PreparedData:
    """Write the images of all `PARTS`, the labels of the test images and a manifest with `facts`: all or nothing."""
    folder = prepared_folder(config)
    with new_folder(folder) as new:
        files = {}
        for name, images in [*parts.items(), *([] if labels is None else [(Path(_LABELS).stem, labels)])]:
            path = new / f"{name}{'.npz' if isinstance(images, list) else '.npy'}"
            try:
                if isinstance(images, list):
                    np.savez(path, *images)
                    files[path.name] = {"images": len(images), "sizes": describe_sizes(images), "dtype": "uint8"}
                else:
                    np.save(path, images)
                    files[path.name] = {"shape": list(images.shape), "dtype": str(images.dtype)}
            except OSError as error:
                reason = error.strerror or f"{error} (is the disk full?)"  # what numpy says
                raise PipelineError(f"cannot write {folder / path.name}: {reason}") from error
            files[path.name]["sha256"] = sha256_file(path)
        manifest = {**facts, "files": files, "digest": _digest(files)}
        (new / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return PreparedData(**parts, test_labels=labels, manifest=manifest)


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
    if not (folder / _MANIFEST).exists():
        raise PipelineError(
            f"no prepared data in {folder}; run: python -m pipeline prepare --dataset {config.dataset} "
            f"--seed {config.seed} --data-dir {config.data_dir}"
            + ("" if config.channels == 1 else f" --channels {config.channels}")
        )
    try:
        with prepared_lock(config):
            return _load(folder, read_manifest(config) or {})
    except (OSError, KeyError, TypeError, ValueError, BadZipFile) as error:
        raise PipelineError(f"prepared data in {folder} is incomplete: {error}") from error


def _load(folder: Path, manifest: dict[str, Any]) -> PreparedData:
    if manifest["digest"] != _digest(manifest["files"]):
        raise PipelineError(f"{folder / _MANIFEST} is damaged: its digest does not match its files")
    arrays: dict[str, Any] = {}
    for name, facts in manifest["files"].items():
        if name not in _FILES:
            raise PipelineError(f"{folder / _MANIFEST} is damaged: it names a file {name}")
        path = folder / name
        digest = sha256_file(path)
        if digest != facts["sha256"]:
            raise PipelineError(f"{path} is damaged: its SHA-256 is {digest}, it must be {facts['sha256']}")
        content = np.load(path, allow_pickle=False)
        arrays[path.stem] = content if path.suffix == ".npy" else list(content.values())
    return PreparedData(**arrays, manifest=manifest)


def _digest(files: dict[str, dict[str, Any]]) -> str:
    """Over the images of all parts; the labels are not part of what a model is trained on."""
    names = {Path(name).stem: name for name in files}
    lines = "".join(f"{files[names[part]]['sha256']}  {part}\n" for part in PARTS)
    return hashlib.sha256(lines.encode()).hexdigest()
