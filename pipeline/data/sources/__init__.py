"""The datasets. Adding one is a `Source` in a module of its own, and an entry in `DATASETS`.

The module behind an entry is imported when the dataset is opened, so that the command line can list the names at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pipeline.config import Config
from pipeline.errors import ArgumentError, PipelineError
from pipeline.plugins import Table

if TYPE_CHECKING:
    import numpy as np

    from pipeline.data.images import Part

Channels = int | Literal["auto"]


@dataclass(frozen=True)
class Division:
    """The images of a dataset, as its source divides them."""

    train: Part  # a validation or test part that the source does not have is taken from it
    validation: Part | None = None
    test: Part | None = None
    groups: np.ndarray | None = None  # int64, for every scene of `train`: one number for scenes to keep together
    lines: tuple[str, ...] = ()  # what there is to say about the images
    one_capture: tuple[str, ...] = ()  # the names of a few scenes with one capture, where others have several
    fault: str = ""  # why nothing should be done with the images as they are


class Source(Protocol):
    """Where the images of a dataset come from."""

    origin: str  # who made the images and where they are published
    licence: str

    def inputs(self) -> dict[str, str]:
        """The SHA-256 of every file that `divide` reads, by name; the files are verified where sums are published.

        Raises:
            PipelineError: a file is missing or damaged.
        """
        ...

    def divide(self, channels: Channels, scratch: Path) -> Division:
        """The images.

        Args:
            channels: 1 for gray, 3 for colour (RGB), other numbers where the images have them; AUTO for what the
                images have, or for gray where there are both.
            scratch: an existing folder for files that are needed as long as the images are.

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
_OWN: dict[str, Callable[[Path], Source]] = {
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


def _added(name: str, member: object) -> Callable[[Path], Source]:
    if not callable(member):
        raise PipelineError(f"a {type(member).__name__} is not a function of the data folder that gives a Source")
    return member


DATASETS = Table("source", _OWN, _added)


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


def open_source(config: Config) -> Source:
    """The source of `config.dataset`: a key of `DATASETS`, or the path of a folder of images.

    Raises:
        PipelineError: there is none of that name, or it does not take the options.
    """
    if config.dataset in DATASETS:
        for option in ("noisy", "group", "white", "black"):
            if getattr(config, option) != getattr(Config, option):
                raise PipelineError(
                    f"--{option} is for folders of images, and {config.dataset} is none; "
                    "give the folder of the clean images by --dataset, or for noisy images alone, the same folder twice"
                    if option == "noisy"
                    else f"--{option} is for folders of images, and {config.dataset} is none"
                )
        return DATASETS[config.dataset](Path(config.data_dir))
    if not is_dataset(config.dataset):
        raise ArgumentError(f"dataset: {describe_unknown(config.dataset)}")
    if config.noisy and not is_dataset(config.noisy):
        raise ArgumentError(f"--noisy {config.noisy}: there is no such folder")
    return import_module("pipeline.data.sources.folder").ImageFolder(
        Path(config.dataset), config.noisy, config.group, config.white, config.black
    )
