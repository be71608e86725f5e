"""MNIST, bundled with the package, so that no network is needed."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np

from pipeline.data.images import Part
from pipeline.data.sources import Channels, Division
from pipeline.data.sources.idx import as_gray, parse_idx
from pipeline.errors import PipelineError
from pipeline.files import sha256_bytes

_FOLDER = Path(__file__).parent / "mnist"
_TRAIN, _TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
_TEST, _TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


class BundledMNIST:
    """The 60,000 training and 10,000 test digits, 28x28 pixels, from the files in `folder`."""

    origin = "MNIST database of handwritten digits, Yann LeCun, Corinna Cortes, Christopher J. C. Burges"
    licence = "CC BY-SA 3.0"

    def __init__(self, folder: Path = _FOLDER) -> None:
        self.folder = folder
        lines = (_FOLDER / "SHA256SUMS").read_text().splitlines()
        self._sums = {name: digest for digest, name in (line.split() for line in lines)}

    def inputs(self) -> dict[str, str]:
        names = [f"{name}.xz" for name in (_TRAIN, _TEST, _TEST_LABELS)]
        return {name: self._verified(name, self._read(name)) for name in names}

    def divide(self, channels: Channels, scratch: Path) -> Division:
        train, test = self.images(channels)
        return Division(Part(train), test=Part(test))

    def images(self, channels: Channels = 1) -> tuple[np.ndarray, np.ndarray]:
        """The training and the test images, uint8 [N, 1, 28, 28]."""
        train, test = (as_gray(self._values(name, 3), channels, "mnist") for name in (_TRAIN, _TEST))
        return train, test

    def test_labels(self) -> np.ndarray:
        return self._values(_TEST_LABELS, 1)

    def train_labels(self) -> np.ndarray:
        """The class of every training image, uint8 [N]."""
        return self._values(_TRAIN_LABELS, 1)

    def _values(self, raw_name: str, dimensions: int) -> np.ndarray:
        compressed = self._read(f"{raw_name}.xz")
        self._verified(f"{raw_name}.xz", compressed)  # before the bytes reach the decompressor
        raw = lzma.decompress(compressed)
        self._verified(raw_name, raw)
        return parse_idx(raw, str(self.folder / raw_name), dimensions)

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
