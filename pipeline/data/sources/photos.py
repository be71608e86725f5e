"""Free photographs that come with installed packages: nothing is downloaded."""

from __future__ import annotations

import io
from functools import cached_property
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.config import AUTO
from pipeline.data.image_files import read_picture
from pipeline.data.images import Part, as_images
from pipeline.data.sources import Channels, Division
from pipeline.data.sources.reading import converted
from pipeline.errors import PipelineError
from pipeline.files import sha256_file

# Photographs to train on and to test on, by the module whose package holds them.
_TRAIN = {
    "sklearn.datasets": ("images/china.jpg", "images/flower.jpg"),
    "skimage.data": (
        *("motorcycle_left.png", "motorcycle_right.png", "astronaut.png"),
        *("coffee.png", "chelsea.png", "rocket.jpg"),
    ),
}
_TEST_GRAY = {
    "skimage.data": ("camera.png", "brick.png", "grass.png", "gravel.png", "coins.png", "moon.png", "page.png"),
    "pywt.data": ("ascent.npz", "aero.npz"),
}
_TEST_COLOUR = (
    "astronaut.png",
    "coffee.png",
    "chelsea.png",
)  # in colour there are no others, so not for training
_PACKAGES = {"sklearn.datasets": "scikit-learn", "skimage.data": "scikit-image", "pywt.data": "PyWavelets"}
_MATE = ("/usr/share/backgrounds/mate/nature", "mate-backgrounds")  # where Debian installs them; or in the data folder
_LARGE = 2000  # pixels


class Photos:
    """Photographs in the packages scikit-image, scikit-learn and PyWavelets, and Debian's mate-backgrounds.

    In gray, nine well-known pictures are for testing (camera, ascent, aero, brick, grass, gravel, coins, moon, page)
    and the rest for training; in colour, astronaut, coffee and chelsea are for testing. The twelve large photographs
    of the Debian package mate-backgrounds are for training if they are found: installed, or as `.jpg` files in
    `DATA_DIR/mate-backgrounds`.
    """

    licence = (
        "scikit-image's photographs: public domain or CC0, for the most part; china and flower: CC BY 2.0; "
        "ascent, aero: MIT (with PyWavelets); mate-backgrounds: GPL-2+"
    )

    def __init__(self, data_dir: Path) -> None:
        self._mate = next(
            (
                found
                for folder in (Path(_MATE[0]), data_dir / _MATE[1])
                if (found := sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".png")))
            ),
            [],
        )
        self.origin = "photographs in scikit-image, scikit-learn and PyWavelets" + (
            f", and {len(self._mate)} of mate-backgrounds" if self._mate else "; mate-backgrounds was not found"
        )

    def inputs(self) -> dict[str, str]:
        paths = {path.name: path for path in [*self._train, *self._test, *self._mate]}
        return {name: sha256_file(path) for name, path in paths.items()}

    def divide(self, channels: Channels, scratch: Path) -> Division:
        channels = 1 if channels == AUTO else channels
        if channels not in (1, 3):
            raise PipelineError(f"--channels {channels}: the dataset photos is in gray or in colour; use 1 or 3")
        train = self._train
        test = self._test
        if channels == 3:
            train = [path for path in train if path.name not in _TEST_COLOUR]
            test = [path for path in self._train if path.name in _TEST_COLOUR]
        reduced = [_reduce(_read(path, channels)) for path in self._mate]
        small = [_read(path, channels) for path in train]
        tests = [_read(path, channels) for path in test]
        return Division(Part(as_images([*small, *reduced])), test=Part(as_images(tests)))

    def test_labels(self) -> None:
        return None

    @cached_property
    def _train(self) -> list[Path]:
        return _paths(_TRAIN)

    @cached_property
    def _test(self) -> list[Path]:
        return _paths(_TEST_GRAY)


def _paths(names: dict[str, tuple[str, ...]]) -> list[Path]:
    paths = []
    for module, files in names.items():
        try:
            folder = Path(str(import_module(module).__file__)).parent
        except ImportError as error:
            raise PipelineError(
                f"dataset 'photos' needs {_PACKAGES[module]}; install it with: pip install -e '.[photos]'"
            ) from error
        for name in files:
            if not (folder / name).is_file():
                raise PipelineError(f"dataset 'photos': {_PACKAGES[module]} does not contain {name}; reinstall it")
            paths.append(folder / name)
    return paths


def _read(path: Path, channels: int) -> np.ndarray:
    """uint8 [channels, H, W]."""
    try:
        if path.suffix == ".npz":
            (array,) = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False).values()
            return array.astype(np.uint8)[np.newaxis]
        return converted(read_picture(path).upright, channels)[0]
    except (OSError, PipelineError) as error:
        raise PipelineError(f"cannot use {path}: {error}") from error


def _reduce(image: np.ndarray) -> np.ndarray:
    """Shrink uint8 [C, H, W]: each pixel is the mean of 2x2, or 3x3 in the largest, which removes traces of JPEG."""
    pixels = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    reduced = np.atleast_3d(np.asarray(pixels.reduce(3 if max(pixels.size) > _LARGE else 2)))
    return np.ascontiguousarray(reduced.transpose(2, 0, 1))
