"""Other datasets of 28x28 images that torchvision knows: read from the data folder, or downloaded there.

The only module that imports torchvision.
"""

from __future__ import annotations

import gzip
import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

from torchvision import datasets

from pipeline.data.images import Part
from pipeline.data.sources import Channels, Division
from pipeline.data.sources.idx import as_gray, parse_idx
from pipeline.errors import PipelineError
from pipeline.files import scratch_folder, sha256_bytes

_EMNIST_ARCHIVE = "gzip.zip"  # all six splits of EMNIST come in this one file


class TorchvisionSet:
    """FashionMNIST, KMNIST, QMNIST or a split of EMNIST, in torchvision's own layout: `DATA_DIR/<class>/raw/`.

    The published archives (`.gz`, for EMNIST one `.zip`) are verified against the MD5 sums that torchvision knows and
    read directly. Raw files without an archive are read unverified, because no sums were published for them; like
    every file, they are recorded in the manifest with their SHA-256.
    """

    def __init__(self, data_dir: Path, class_name: str, split: str | None) -> None:
        self._class: Any = getattr(datasets, class_name)
        self._split = split
        self._folder = data_dir / class_name / "raw"
        self.origin = f"torchvision.datasets.{class_name}" + (f", split {split}" if split else "")
        self.licence = {"FashionMNIST": "MIT", "KMNIST": "CC BY-SA 4.0", "QMNIST": "BSD-style"}.get(
            class_name, "see the publisher (NIST Special Database 19)"
        )
        self._contents: dict[str, bytes] = {}

    def inputs(self) -> dict[str, str]:
        return {name: sha256_bytes(self._read(name)) for name in self._raw_names()}

    def divide(self, channels: Channels, scratch: Path) -> Division:
        train, test = (parse_idx(self._read(name), str(self._folder / name)) for name in self._raw_names())
        if self._split:
            # In EMNIST's files, every letter is mirrored along the diagonal.
            train, test = train.transpose(0, 2, 1), test.transpose(0, 2, 1)
        name = self._class.__name__
        return Division(Part(as_gray(train, channels, name)), test=Part(as_gray(test, channels, name)))

    def test_labels(self) -> None:
        return None

    def _raw_names(self) -> tuple[str, str]:
        if self._split:
            return f"emnist-{self._split}-train-images-idx3-ubyte", f"emnist-{self._split}-test-images-idx3-ubyte"
        train, test = (name.removesuffix(".gz") for name in self._published() if "images" in name)
        return train, test

    def _published(self) -> dict[str, str]:
        """MD5 of every published archive, by file name, as torchvision knows them."""
        if self._split:
            return {_EMNIST_ARCHIVE: self._class.md5}
        resources = self._class.resources
        if isinstance(resources, dict):  # QMNIST: full addresses, by part
            resources = [entry for part in ("train", "test") for entry in resources[part]]
        return {url.rsplit("/", 1)[-1]: md5 for url, md5 in resources}

    def _read(self, raw_name: str) -> bytes:
        """The bytes of a raw idx file: from its verified archive, else from the raw file, else downloaded."""
        if raw_name not in self._contents:
            archive_name = _EMNIST_ARCHIVE if self._split else f"{raw_name}.gz"
            archive, raw = self._folder / archive_name, self._folder / raw_name
            if not archive.exists() and not raw.exists():
                self._download()
            try:
                self._contents[raw_name] = self._unpack(archive, raw_name) if archive.exists() else raw.read_bytes()
            except (OSError, EOFError, zlib.error, zipfile.BadZipFile, KeyError) as error:
                raise PipelineError(f"cannot read {raw_name} in {self._folder}: {error}") from error
        return self._contents[raw_name]

    def _unpack(self, archive: Path, raw_name: str) -> bytes:
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        expected = self._published()[archive.name]
        if digest != expected:
            raise PipelineError(f"{archive} is damaged: its MD5 is {digest}, it must be {expected}")
        if self._split:
            with zipfile.ZipFile(archive) as bundle:
                return gzip.decompress(bundle.read(f"gzip/{raw_name}.gz"))
        return gzip.decompress(archive.read_bytes())

    def _download(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        arguments = {"split": self._split} if self._split else {}
        try:
            # torchvision writes straight to the final names: let it do so elsewhere, and move complete files.
            with scratch_folder(self._folder) as scratch:
                for train in (True, False):
                    self._class(scratch, train=train, download=True, **arguments)
                for name in self._published():
                    (scratch / self._class.__name__ / "raw" / name).replace(self._folder / name)
        except (OSError, RuntimeError) as error:  # URLError is an OSError
            raise PipelineError(
                f"{self._class.__name__} is not in {self._folder} and cannot be downloaded "
                f"({' '.join(str(error).split())}); put {', '.join(self._published())} there yourself"
            ) from error
