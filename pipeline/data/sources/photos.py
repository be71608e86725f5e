"""Free photographs that are on this machine: those inside packages, and those in a folder. Nothing is downloaded."""

from __future__ import annotations

import fnmatch
import io
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.config import AUTO
from pipeline.data.finding import find_images
from pipeline.data.image_files import read_picture
from pipeline.data.images import Part, as_images
from pipeline.data.sources import Channels, Division
from pipeline.data.sources.reading import converted
from pipeline.errors import PipelineError
from pipeline.files import sha256_file

_FOLDER = "photos"  # in the data folder
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
_LARGE = 2500  # pixels of the longer side
_VALIDATES = 12  # one photograph in so many ...
_VALIDATED = 384  # ... a square of so many pixels from its middle


@dataclass(frozen=True)
class Credit:
    """Who made some photographs, and what may be done with them."""

    names: str  # a pattern for the names of their files
    by: str
    licence: str


# Those that are known by name, in the folder or where Debian's packages install them. More are welcome: any photograph
# in the folder is used, but it counts as one whose licence is not known.
CREDITS = (
    Credit("budgie-*.jpg", "wallpapers of the Budgie desktop", "CC0 1.0"),
    Credit("popos-nasa-*.jpg", "NASA, in the wallpapers of Pop!_OS", "public domain"),
    Credit("popos-*.jpg", "Unsplash (2017), in the wallpapers of Pop!_OS", "public domain"),
    Credit("*_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC BY 4.0"),
    Credit("Picture_??_by_freespace.jpg", "Trevor 'Freespace'", "CC BY 4.0"),
    Credit("umang_by_Abhishek_Mudgal.jpg", "Abhishek Mudgal", "CC BY 4.0"),
    Credit("Wine_by_Jakkub_Mede.jpg", "Jakub Mede", "CC BY 4.0"),
    Credit("seeding_by_Clements_Engelhardt.jpg", "Clemens Engelhardt", "CC0 1.0"),
    Credit("cincinnati-bridge.jpg", "Derek Jensen", "public domain"),
    Credit("citrus-fruits.jpg", "US Department of Agriculture", "public domain"),
    Credit("european-honey-bee.jpg", "John Severns", "public domain"),
)
# Of Debian's packages lomiri-wallpapers-16.04 and palapeli-data.
_INSTALLED = (Path("/usr/share/backgrounds"), Path("/usr/share/palapeli/collection"))
_INSIDE = "photographs in scikit-image: public domain or CC0, for the most part; china and flower: CC BY 2.0"


class Photos:
    """Photographs in the packages scikit-image and scikit-learn, in `DATA_DIR/photos`, and in two packages of Debian.

    In gray, nine well-known pictures are for testing (camera, ascent, aero, brick, grass, gravel, coins, moon, page)
    and the rest for training; in colour, astronaut, coffee and chelsea are for testing. All other photographs are taken
    at half their size, which removes the traces of JPEG and of the camera's own noise; large ones at a quarter as well,
    with more detail to the pixel. The middle of one in twelve is for validation, and the rest of it is not used.
    """

    def __init__(self, data_dir: Path) -> None:
        folder = data_dir / _FOLDER
        known = [path for place in _INSTALLED for path in sorted(place.glob("*.jpg")) if _credit(path)]
        own = find_images(folder).images if folder.is_dir() else []
        names = {path.name for path in own}
        self._found = {path.name: path for path in known if path.name not in names}
        # Two folders may each have a file of one name.
        self._found |= {path.relative_to(data_dir).as_posix(): path for path in own}
        self.origin = "photographs in scikit-image and scikit-learn, and " + (
            f"{len(self._found)} others"
            if self._found
            else f"no others: there are none in the data folder's {_FOLDER}/"
        )
        counts: dict[str, int] = {}
        for path in self._found.values():
            credit = _credit(path)
            text = f"{credit.by}: {credit.licence}" if credit else "others, of which it is not known"
            counts[text] = counts.get(text, 0) + 1
        self.licence = "; ".join([_INSIDE, *(f"{text} ({count})" for text, count in counts.items())])

    def inputs(self) -> dict[str, str]:
        return self._sums

    def divide(self, channels: Channels, scratch: Path) -> Division:
        channels = 1 if channels == AUTO else channels
        if channels not in (1, 3):
            raise PipelineError(f"--channels {channels}: the dataset photos is in gray or in colour; use 1 or 3")
        train = self._train
        test = self._test
        if channels == 3:
            train = [path for path in train if path.name not in _TEST_COLOUR]
            test = [path for path in self._train if path.name in _TEST_COLOUR]
        images = [_read(path, channels) for path in train]
        middles = []
        for name, path in self._found.items():
            photograph = _read(path, channels)
            reduced = [_reduced(photograph, factor) for factor in ((2, 4) if max(photograph.shape) > _LARGE else (2,))]
            # By digest, so that one photograph more does not change the part of all others.
            if int(self._sums[name][:8], 16) % _VALIDATES == 0:
                middles += [_middle(image) for image in reduced]
            else:
                images += reduced
        tests = [_read(path, channels) for path in test]
        return Division(
            Part(as_images(images)),
            validation=Part(as_images(middles)) if middles else None,
            test=Part(as_images(tests)),
            lines=(self.origin,),
        )

    def test_labels(self) -> None:
        return None

    @cached_property
    def _sums(self) -> dict[str, str]:
        paths = {path.name: path for path in [*self._train, *self._test]} | self._found
        return {name: sha256_file(path) for name, path in paths.items()}

    @cached_property
    def _train(self) -> list[Path]:
        return _paths(_TRAIN)

    @cached_property
    def _test(self) -> list[Path]:
        return _paths(_TEST_GRAY)


def _credit(path: Path) -> Credit | None:
    return next((credit for credit in CREDITS if fnmatch.fnmatchcase(path.name, credit.names)), None)


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
        image = converted(read_picture(path).upright, channels)[0]
    except (OSError, PipelineError) as error:
        raise PipelineError(f"cannot use {path}: {error}") from error
    if image.dtype != np.uint8:
        raise PipelineError(f"cannot use {path}: photographs for training must have 8 bits")
    return image


def _reduced(image: np.ndarray, factor: int) -> np.ndarray:
    """Shrink uint8 [C, H, W]: each pixel is the mean of `factor` x `factor`."""
    pixels = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    reduced = np.atleast_3d(np.asarray(pixels.reduce(factor)))
    return np.ascontiguousarray(reduced.transpose(2, 0, 1))


def _middle(image: np.ndarray) -> np.ndarray:
    top, left = (max(0, (side - _VALIDATED) // 2) for side in image.shape[1:])
    return np.ascontiguousarray(image[:, top : top + _VALIDATED, left : left + _VALIDATED])
