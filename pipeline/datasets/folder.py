"""A folder of images of one size, in any format that Pillow reads."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.errors import PipelineError
from pipeline.files import sha256_file

SMALLEST_SIDE = 11  # pixels: the window of SSIM


class ImageFolder:
    """Images below `folder`, at any depth, in the order of their paths; colour is turned to gray (ITU-R 601 luma).

    With subfolders `train/` and `test/` these are the two parts; without, no test images are set apart here.
    """

    licence = "that of the images"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.origin = f"folder of images '{folder.name}'"

    @cached_property
    def _parts(self) -> tuple[list[Path], list[Path] | None]:
        train, test = self.folder / "train", self.folder / "test"
        if train.is_dir() and test.is_dir():
            return self._find(train), self._find(test)
        return self._find(self.folder), None

    def _find(self, folder: Path) -> list[Path]:
        extensions = Image.registered_extensions()
        paths = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in extensions and not path.name.startswith(".") and path.is_file()
        )
        if not paths:
            raise PipelineError(f"no images in {folder} (looked for PNG, JPEG, TIFF, BMP, WebP and the like)")
        return paths

    def inputs(self) -> dict[str, str]:
        train, test = self._parts
        try:
            return {path.relative_to(self.folder).as_posix(): sha256_file(path) for path in [*train, *(test or [])]}
        except OSError as error:
            raise PipelineError(f"cannot read {error.filename}: {error.strerror}") from error

    def images(self) -> tuple[np.ndarray, np.ndarray | None]:
        train, test = self._parts
        images = _read_all([*train, *(test or [])])
        return (images, None) if test is None else (images[: len(train)], images[len(train) :])


def _read_all(paths: list[Path]) -> np.ndarray:
    """uint8 [N, H, W]."""
    first = _read_gray(paths[0])
    if min(first.shape) < SMALLEST_SIDE:
        raise PipelineError(
            f"{paths[0]} is {first.shape[1]}x{first.shape[0]} pixels; "
            f"at least {SMALLEST_SIDE}x{SMALLEST_SIDE} are needed (SSIM's window)"
        )
    images = np.empty((len(paths), *first.shape), np.uint8)
    for index, path in enumerate(paths):
        image = _read_gray(path)
        if image.shape != first.shape:
            raise PipelineError(
                f"images must have one size: {paths[0]} is {first.shape[1]}x{first.shape[0]} pixels, "
                f"{path} is {image.shape[1]}x{image.shape[0]}"
            )
        images[index] = image
    return images


def _read_gray(path: Path) -> np.ndarray:
    """uint8 [H, W]; 16-bit images are scaled to 8 bits."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion to "L" clips them at 255
                return (np.asarray(image, np.float64).clip(0, 65535) / 257).round().astype(np.uint8)
            if image.mode == "F":
                raise PipelineError(f"{path} holds floating-point pixels; 8-bit or 16-bit images are needed")
            return np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise PipelineError(f"cannot read {path} as an image: {error}") from error
