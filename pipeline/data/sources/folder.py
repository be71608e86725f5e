"""A folder of images of any size, gray or colour, in any format that Pillow reads."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.data.images import SMALLEST_SIDE, Images, as_images, to_integers
from pipeline.errors import PipelineError
from pipeline.files import sha256_file


class ImageFolder:
    """Images below `folder`, at any depth, in the order of their paths.

    With one channel, colour is converted to gray (ITU-R 601 luma); with three, all images must be in colour. Alpha is
    dropped.

    Subfolders `train/` and `test/`, if both exist, are the training and the test images. Otherwise the folder has no
    test images of its own.
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
            raise PipelineError(f"no images in {folder} (PNG, JPEG, TIFF, BMP, WebP or another format of Pillow)")
        return paths

    def inputs(self) -> dict[str, str]:
        train, test = self._parts
        try:
            return {path.relative_to(self.folder).as_posix(): sha256_file(path) for path in [*train, *(test or [])]}
        except OSError as error:
            raise PipelineError(f"cannot read {error.filename}: {error.strerror}") from error

    def images(self, channels: int = 1) -> tuple[Images, Images | None]:
        train, test = self._parts
        images = [read_image(path, channels) for path in [*train, *(test or [])]]
        for path, image in zip([*train, *(test or [])], images, strict=True):
            if min(image.shape[1:]) < SMALLEST_SIDE:
                raise PipelineError(
                    f"{path} is {image.shape[1]}x{image.shape[2]} pixels (height x width); "
                    f"at least {SMALLEST_SIDE}x{SMALLEST_SIDE} are needed, the window of SSIM"
                )
        if test is None:
            return as_images(images), None
        return as_images(images[: len(train)]), as_images(images[len(train) :])

    def test_labels(self) -> None:
        return None


def read_image(path: Path, channels: int) -> np.ndarray:
    """Read an image file as uint8 [channels, H, W]; 16 bits are scaled to 8.

    Raises:
        PipelineError: it cannot be read, or is gray although `channels` is 3.
    """
    try:
        with Image.open(path) as image:
            if image.mode == "F":
                raise PipelineError(f"{path} holds floating-point pixels; 8-bit or 16-bit images are needed")
            is_gray = image.mode.startswith(("I", "L", "1"))
            if channels == 3 and is_gray:
                raise PipelineError(f"--channels 3: {path} is a gray image; all must be in colour, or use --channels 1")
            if image.mode.startswith("I"):  # 16 bits per pixel, which Pillow's own conversion to "L" would clip at 255
                return to_integers(np.asarray(image, np.float64) / 65535)[np.newaxis]
            upright = ImageOps.exif_transpose(image)
            if channels == 1:
                return np.asarray(upright.convert("L"))[np.newaxis]
            return np.ascontiguousarray(np.asarray(upright.convert("RGB")).transpose(2, 0, 1))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise PipelineError(f"cannot read {path} as an image: {error}") from error
