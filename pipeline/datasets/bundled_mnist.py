"""MNIST, as bundled with the package: no network needed."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np

from pipeline.datasets.idx import parse_idx
from pipeline.errors import PipelineError
from pipeline.files import sha256_bytes

_FOLDER = Path(__file__).parent / "mnist"


class BundledMNIST:
    """The 60,000 training and 10,000 test digits, 28x28. `folder` holds the files; tests point it elsewhere."""

    origin = "MNIST database of handwritten digits, Yann LeCun, Corinna Cortes, Christopher J. C. Burges"
    licence = "CC BY-SA 3.0"

    def __init__(self, folder: Path = _FOLDER) -> None:
        self.folder = folder
        lines = (_FOLDER / "SHA256SUMS").read_text().splitlines()
        self._sums = {name: digest for digest, name in (line.split() for line in lines)}

    def inputs(self) -> dict[str, str]:
        names = [name for name in self._sums if name.endswith("images-idx3-ubyte.xz")]
        return {name: self._verified(name, self._read(name)) for name in names}

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        return self._images("train"), self._images("t10k")

    def _images(self, part: str) -> np.ndarray:
        raw_name = f"{part}-images-idx3-ubyte"
        compressed = self._read(f"{raw_name}.xz")
        self._verified(f"{raw_name}.xz", compressed)  # before the bytes reach the decompressor
        raw = lzma.decompress(compressed)
        self._verified(raw_name, raw)
        return parse_idx(raw, str(self.folder / raw_name))

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise PipelineError(f"cannot read {self.folder / name}: {error.strerror}") from error

    def _verified(self, name: str, data: bytes) -> str:
        digest = sha256_bytes(data)
        if digest != self._sums[name]:
            raise PipelineError(
                f"{self.folder / name} is damaged: its SHA-256 is {digest}, it must be {self._sums[name]}"
            )
        return digest
