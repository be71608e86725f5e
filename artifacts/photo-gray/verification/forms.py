"""The forms that a file can have, and how far the output of each may be off: the limits are here, not in the folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_HALO = 256  # pixels: the largest receptive field that the pipeline measures


@dataclass(frozen=True)
class Form:
    """A form, held against the golden output: by its largest difference, or else by its PSNR."""

    dtype: str  # of its input and output: "float32" or "uint8"
    max_abs: float | None = None  # of any value
    psnr: float | None = None  # in dB, at least
    lacking: tuple[str, ...] = ()  # the runtimes that lack its operators

    @property
    def tolerance(self) -> dict[str, float]:
        """As the manifest has it."""
        values = {"max_abs": self.max_abs, "psnr": self.psnr}
        return {name: value for name, value in values.items() if value is not None}


FORMS: dict[str, Form] = {
    "float32": Form("float32", max_abs=1e-5),
    "uint8": Form("uint8", max_abs=1),  # where the last bit of another runtime decides a rounding
    "int8": Form("float32", psnr=40, lacking=("reference", "opencv")),
    "fp16": Form("float32", psnr=50),
}


@dataclass(frozen=True)
class File:
    """What a manifest says of an ONNX file, as far as it is needed to check it."""

    name: str
    variant: str  # a key of `FORMS`
    sha256: str
    channels: int
    tests: tuple[str, ...]  # folders with golden data, at least one
    halo: int  # pixels, see `check_halo`
    tolerance: object  # what the manifest says that it is

    @property
    def form(self) -> Form:
        return FORMS[self.variant]

    @classmethod
    def read(cls, entry: Any, halo: object) -> File:
        """From an entry of the manifest, and the halo there.

        Raises:
            ValueError: it is not one. The message does not name the manifest.
        """
        try:
            name, variant, digest, shape = entry["file"], entry["variant"], entry["sha256"], entry["input"]["shape"]
            tests = (entry["test_data"], *entry.get("more_test_data", ()))
            channels, given = shape[1], entry["tolerance"]
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"an entry of a model lacks {error}, or is of another kind") from error
        if not all(isinstance(text, str) for text in (name, variant, digest, *tests)):
            raise ValueError("file, variant, sha256 and the names of test data must be texts")
        if variant not in FORMS:
            raise ValueError(f"{name} is of the variant '{variant}'; there are {', '.join(FORMS)}")
        if type(channels) is not int or not 1 <= channels <= 64:
            raise ValueError(f"{name} must have 1 to 64 channels, and not {channels!r:.50}")
        if type(halo) is not int or not 0 <= halo <= MAX_HALO:
            raise ValueError(f"the halo must be a number of pixels from 0 to {MAX_HALO}, and not {halo!r:.50}")
        return cls(name, variant, digest, channels, tests, halo, given)
