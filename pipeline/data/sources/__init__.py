"""The datasets. Adding one is a `Source` in a module of its own, and an entry in `DATASETS`.

The module behind an entry is imported when the dataset is opened, so that the command line can list the names at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    import numpy as np

    from pipeline.data.images import Images


class Source(Protocol):
    """Where the images of a dataset come from, before they are split."""

    origin: str  # who made the images and where they are published
    licence: str

    def inputs(self) -> dict[str, str]:
        """The SHA-256 of every file that `images` reads, by name; the files are verified where sums are published.

        Raises:
            PipelineError: a file is missing or damaged.
        """
        ...

    def images(self, channels: int) -> tuple[Images, Images | None]:
        """The training images, and the test images; None if the source has no test images of its own.

        Args:
            channels: 1 for gray, 3 for colour (RGB).

        Raises:
            PipelineError: the source has no such images, or they cannot be read.
        """
        ...

    def test_labels(self) -> np.ndarray | None:
        """The class of every test image, uint8 [N]; None if the source does not know it."""
        ...


def _torchvision(class_name: str, split: str | None = None) -> Callable[[Path], Source]:
    def open_source(data_dir: Path) -> Source:
        return import_module("pipeline.data.sources.torchvision_sets").TorchvisionSet(data_dir, class_name, split)

    return open_source


def _mnist(data_dir: Path) -> Source:
    return import_module("pipeline.data.sources.bundled_mnist").BundledMNIST()


def _photos(data_dir: Path) -> Source:
    return import_module("pipeline.data.sources.photos").Photos(data_dir)


# The names that `--dataset` takes, besides the path of a folder. Each is opened with the data folder.
DATASETS: dict[str, Callable[[Path], Source]] = {
    "mnist": _mnist,
    "fashion-mnist": _torchvision("FashionMNIST"),
    "kmnist": _torchvision("KMNIST"),
    "qmnist": _torchvision("QMNIST"),
    "emnist-balanced": _torchvision("EMNIST", "balanced"),
    "emnist-byclass": _torchvision("EMNIST", "byclass"),
    "emnist-bymerge": _torchvision("EMNIST", "bymerge"),
    "emnist-digits": _torchvision("EMNIST", "digits"),
    "emnist-letters": _torchvision("EMNIST", "letters"),
    "emnist-mnist": _torchvision("EMNIST", "mnist"),
    "photos": _photos,
}


def is_dataset(name: str) -> bool:
    """Whether `name` can be opened: a key of `DATASETS`, or the path of a folder."""
    try:
        name.encode()  # a name that is not valid text cannot be recorded
        return name in DATASETS or (name != "" and Path(name).is_dir())
    except (OSError, ValueError):  # not a possible file name
        return False


def describe_unknown(name: str) -> str:
    """An error text that says what is allowed in place of `name`, with the nearest known name."""
    nearest = difflib.get_close_matches(name, DATASETS, n=1)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    return f"'{name}' is neither an existing folder of images nor one of: {', '.join(DATASETS)}{hint}"


def open_source(name: str, data_dir: Path) -> Source:
    """The source called `name`: a key of `DATASETS`, or the path of a folder of images."""
    if name in DATASETS:
        return DATASETS[name](data_dir)
    if not is_dataset(name):
        raise PipelineError(f"dataset: {describe_unknown(name)}")
    return import_module("pipeline.data.sources.folder").ImageFolder(Path(name))
