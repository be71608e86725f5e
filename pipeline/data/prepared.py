"""Prepared data: training, validation and test images and a manifest, in one folder that is complete or absent."""

from __future__ import annotations

import hashlib
import json
import shlex
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from pipeline.config import AUTO, DATA, Config, DataFacts
from pipeline.data.images import Images, Levels, Part, describe_sizes
from pipeline.data.sources import DATASETS
from pipeline.errors import PipelineError
from pipeline.files import new_folder, read_json, sha256_bytes, sha256_file, writing

PARTS = ("train", "validation", "test")
_MANIFEST = "manifest.json"
_LABELS = "test_labels.npy"
_TYPES = ("uint8", "uint16", "float32")  # of pixels
_SHORT = 128  # characters of a dataset's name in the name of its folder
_LOCAL_HEADER, _LOCAL_LENGTHS = 30, 26  # bytes: of a zip file's local header, and to the lengths in it
_CHUNK = 2**26  # bytes of images to write at a time

Chosen = tuple[Part, np.ndarray]
"""A part of a dataset, and the numbers of its scenes that are taken, in order."""


@dataclass(frozen=True)
class PreparedData:
    """The images of a dataset, split. They are mapped from their files, so that only what is read takes memory."""

    train: Part
    validation: Part
    test: Part
    manifest: dict[str, Any]
    test_labels: np.ndarray | None = None  # uint8 [N]: the class of each test image, where the dataset knows it

    @property
    def digest(self) -> str:
        """SHA-256 over all images of all three parts, and the levels, as 64 hex digits."""
        return self.manifest["digest"]

    @property
    def test_digest(self) -> str:
        """SHA-256 of the test images, as 64 hex digits: only results on the same images can be compared."""
        sums = [facts["sha256"] for name, facts in self.manifest["files"].items() if _is_of(name, "test")]
        return sums[0] if len(sums) == 1 else sha256_bytes("\n".join(sums).encode())

    @property
    def levels(self) -> Levels:
        return self.train.levels

    @property
    def layout(self) -> str:
        """As `Part.layout`."""
        return self.train.layout

    @property
    def channels(self) -> int:
        return self.train.images[0].shape[0]

    @property
    def dtype(self) -> np.dtype:
        """uint8, uint16 or float32."""
        return self.train.images[0].dtype

    @property
    def facts(self) -> DataFacts:
        """What options that are left at auto follow from."""
        # In an array, all are as large as the first.
        images = self.train.images
        shapes = [image.shape[1:] for image in (images[:1] if isinstance(images, np.ndarray) else images)]
        others = self.validation.images
        smallest = min(min(image.shape[1:]) for image in (others[:1] if isinstance(others, np.ndarray) else others))
        return DataFacts(
            layout=self.layout,
            has_clean=self.train.clean is not None,
            images=len(images),
            pixels=sum(height * width for height, width in shapes) * (len(images) // len(shapes)),
            smallest=min(smallest, *(min(shape) for shape in shapes)),
            largest=max(max(shape) for shape in shapes),
            one_size=isinstance(images, np.ndarray) and isinstance(self.validation.images, np.ndarray),
        )

    def describe(self) -> str:
        """Such as `96 training, 24 validation and 20 test images of 28x28`."""
        sizes = describe_sizes(self.train.images, self.validation.images, self.test.images)
        colour = {1: "", 3: " in colour"}.get(self.channels, f" with {self.channels} channels")
        depth = {"uint8": "", "uint16": " in 16 bits"}.get(str(self.dtype), " as floats")
        kind = {"clean": "images", "noisy": "noisy images", "bursts": "captures"}.get(self.layout, self.layout)
        parts = [f"{len(part):,}" for part in (self.train, self.validation, self.test)]
        kind = kind.removesuffix("s") if len(self.test) == 1 else kind
        return f"{parts[0]} training, {parts[1]} validation and {parts[2]} test {kind} of {sizes}{colour}{depth}"


def prepared_folder(config: Config) -> Path:
    """The folder for the prepared form of `config.dataset`, split by `config.seed`."""
    name = config.dataset
    if name in DATASETS:
        name += "-rgb" if config.channels == 3 else ""
    else:
        path = Path(name).resolve()
        # Two folders may share a name, and one may be prepared in several ways: the digest keeps them apart.
        ways = {key: getattr(config, key) for key in ("noisy", "group", "channels", "white", "black")}
        defaults = {"noisy": "", "group": "", "channels": 1, "white": AUTO, "black": 0}
        others = "".join(f"\n{key}={value}" for key, value in ways.items() if value != defaults[key])
        name = f"{path.name[:_SHORT] or 'root'}-{sha256_bytes(f'{path}{others}'.encode())[:8]}"
    return Path(config.data_dir) / "prepared" / f"{name}-seed{config.seed}"


def prepared_lock(config: Config) -> FileLock:
    """The lock to hold while the prepared data are written or read; a process that holds it can acquire it again."""
    folder = prepared_folder(config)
    return FileLock(folder.with_name(f".{folder.name}.lock"), is_singleton=True)


def write_prepared(
    config: Config, parts: Mapping[str, Chosen], labels: np.ndarray | None, facts: dict[str, Any]
) -> PreparedData:
    """Write all parts, the labels of the test images, and a manifest with `facts` added: everything or nothing.

    Args:
        config: decides the folder.
        parts: for each of `PARTS`, its images. All have the same levels.
        labels: the class of each test image, uint8 [N]; None if unknown.
        facts: where the images come from, for the manifest.

    Raises:
        PipelineError: a file cannot be written.
    """
    folder = prepared_folder(config)
    levels = parts["train"][0].levels
    with new_folder(folder) as new:
        files: dict[str, dict[str, Any]] = {}
        for name, (part, scenes) in parts.items():
            if part.clean is not None:
                files |= _write_images(new, folder, name, part.clean, scenes)
            if part.noisy is not None:
                captures, places = part.captures_of(scenes)
                files |= _write_images(new, folder, f"{name}_noisy", part.noisy, captures)
                files |= _write_numbers(new, folder, f"{name}_scenes", places)
        if labels is not None:
            files |= _write_numbers(new, folder, Path(_LABELS).stem, labels)
        for name, entry in files.items():
            entry["sha256"] = sha256_file(new / name)
        manifest = {**facts, "levels": asdict(levels), "files": files, "digest": _digest(files, levels)}
        (new / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return _read(folder, manifest)


def _write_images(new: Path, folder: Path, name: str, images: Images, numbers: np.ndarray) -> dict[str, dict[str, Any]]:
    """Write the images with these numbers, and return what the manifest says of the file."""
    shapes = {images.shape[1:]} if isinstance(images, np.ndarray) else {images[number].shape for number in numbers}
    dtype = images[0].dtype
    if len(shapes) == 1:
        path = new / f"{name}.npy"
        shape = (len(numbers), *shapes.pop())
        with writing(folder / path.name):
            _write_array(path, images, numbers, shape)
        return {path.name: {"shape": list(shape), "dtype": str(dtype)}}
    path = new / f"{name}.npz"
    chosen = [images[number] for number in numbers]
    with writing(folder / path.name):
        np.savez(path, *chosen)
    return {path.name: {"images": len(chosen), "sizes": describe_sizes(chosen), "dtype": str(dtype)}}


def _write_numbers(new: Path, folder: Path, name: str, numbers: np.ndarray) -> dict[str, dict[str, Any]]:
    path = new / f"{name}.npy"
    with writing(folder / path.name):
        np.save(path, numbers)
    return {path.name: {"shape": list(numbers.shape), "dtype": str(numbers.dtype)}}


def _write_array(path: Path, images: Images, chosen: np.ndarray, shape: tuple[int, ...]) -> None:
    """Write the images at the indices `chosen` as an `.npy` file of this shape, a few at a time."""
    with path.open("wb") as file:
        descr = np.lib.format.dtype_to_descr(images[0].dtype)
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        if isinstance(images, list):
            for number in chosen:
                file.write(np.ascontiguousarray(images[number]).data)
            return
        for numbers in np.array_split(chosen, max(1, len(chosen) * images[0].nbytes // _CHUNK)):
            file.write(images[numbers].tobytes())


def read_manifest(config: Config) -> dict[str, Any] | None:
    """The manifest of the prepared data, or None where none was prepared."""
    path = prepared_folder(config) / _MANIFEST
    return read_json(path) if path.exists() else None


def load_prepared(config: Config) -> PreparedData:
    """Read what `prepare` left, and verify every file against the manifest.

    Raises:
        PipelineError: nothing was prepared, or a file is missing, damaged, or not the one in the manifest.
    """
    folder = prepared_folder(config)
    if not (folder / _MANIFEST).exists():
        raise PipelineError(
            f"there are no prepared data in {folder}; run: python -m pipeline prepare"
            + "".join(
                f" --{key.replace('_', '-')} {shlex.quote(str(getattr(config, key)))}"
                for key in DATA
                if key in ("dataset", "data_dir", "seed") or getattr(config, key) != getattr(Config, key)
            )
        )
    try:
        with prepared_lock(config):
            return _load(folder, read_manifest(config) or {})
    except PipelineError:
        raise
    except Exception as error:  # what a stranger wrote can be wrong in any way
        raise PipelineError(f"the prepared data in {folder} are incomplete: {error}") from error


def _load(folder: Path, manifest: dict[str, Any]) -> PreparedData:
    if manifest["digest"] != _digest(manifest["files"], _levels(manifest)):
        raise PipelineError(f"{folder / _MANIFEST} is damaged: its digest does not match its files")
    for name, facts in manifest["files"].items():
        if name != _LABELS and not any(_is_of(name, part) for part in PARTS):
            raise PipelineError(f"{folder / _MANIFEST} is damaged: it names an unknown file {name}")
        path = folder / name
        digest = sha256_file(path)
        if digest != facts["sha256"]:
            raise PipelineError(f"{path} is damaged: its SHA-256 is {digest}, it must be {facts['sha256']}")
    return _read(folder, manifest)


def _read(folder: Path, manifest: dict[str, Any]) -> PreparedData:
    found: dict[str, Any] = {}
    for path in (folder / name for name in manifest["files"]):
        # Read-only: a writable mapping must not be larger than the memory.
        found[path.stem] = _map_archive(path) if path.suffix == ".npz" else np.load(path, "r", allow_pickle=False)
        _check_kind(path, found[path.stem])
    parts = {
        part: Part(found.get(part), found.get(f"{part}_noisy"), _scenes(found.get(f"{part}_scenes")), _levels(manifest))
        for part in PARTS
    }
    return PreparedData(**parts, manifest=manifest, test_labels=found.get(Path(_LABELS).stem))


def _check_kind(path: Path, content: np.ndarray | list[np.ndarray]) -> None:
    """Raise `ValueError` for what are neither images nor numbers, whatever the manifest says."""
    if path.name == _LABELS or path.stem.endswith("_scenes"):
        right = isinstance(content, np.ndarray) and content.ndim == 1 and content.dtype.kind in "iu"
    elif isinstance(content, np.ndarray):
        right = content.ndim == 4 and str(content.dtype) in _TYPES and 0 not in content.shape
    else:
        kinds = {(image.ndim, str(image.dtype), 0 in image.shape) for image in content}
        right = len(kinds) == 1 and kinds <= {(3, kind, False) for kind in _TYPES}
    if not right:
        raise ValueError(f"{path.name} does not hold what it must")


def _scenes(numbers: np.ndarray | None) -> np.ndarray | None:
    return None if numbers is None else np.array(numbers)


def _map_archive(path: Path) -> list[np.ndarray]:
    """The arrays of an `.npz` file, which stores them as they are, mapped from it."""
    arrays: list[np.ndarray] = []
    content = np.memmap(path, np.uint8, "r")  # one mapping, as a process may not have very many
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = reader[version](stream)
                header = stream.tell()
            lengths = member.header_offset + _LOCAL_LENGTHS  # in the local header, which differs from the central one
            name, extra = struct.unpack("<HH", content[lengths : lengths + 4].tobytes())
            start = member.header_offset + _LOCAL_HEADER + name + extra + header
            if dtype.hasobject:  # NumPy would take the bytes for addresses of objects
                raise ValueError(f"{path.name} holds objects")
            arrays.append(np.ndarray(shape, dtype, content, start))
    return arrays


def _levels(manifest: dict[str, Any]) -> Levels:
    """Those in the manifest; it has none where all pixels have 8 bits and were prepared by an early version."""
    return Levels(**manifest["levels"]) if "levels" in manifest else Levels()


def _is_of(name: str, part: str) -> bool:
    """Whether a file belongs to a part, the labels aside."""
    stem, _, suffix = name.partition(".")
    return suffix in ("npy", "npz") and stem in (part, f"{part}_noisy", f"{part}_scenes")


def _digest(files: dict[str, dict[str, Any]], levels: Levels) -> str:
    """Covers the images of all parts and their levels, but not the labels, which no model is trained on."""
    sums = {Path(name).stem: facts["sha256"] for name, facts in files.items()}
    kinds = [f"{part}{kind}" for kind in ("", "_noisy", "_scenes") for part in PARTS]
    lines = "".join(f"{sums[kind]}  {kind}\n" for kind in kinds if kind in sums)
    types = {facts["dtype"] for name, facts in files.items() if any(_is_of(name, part) for part in PARTS)}
    if levels != Levels() or "uint8" not in types:
        lines += f"{levels.white:g} {levels.black:g}\n"
    return hashlib.sha256(lines.encode()).hexdigest()
