"""A folder of images: clean ones, pairs of a noisy and a clean one, bursts of noisy captures, or noisy ones alone."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from pipeline.config import AUTO, SMALLEST_CROP
from pipeline.data.finding import Found, find_images
from pipeline.data.image_files import FORMATS
from pipeline.data.images import Levels
from pipeline.data.levels import describe_dark, describe_levels, find_levels
from pipeline.data.sources import Channels, Division
from pipeline.data.sources.layouts import NAMED, Layout, find_layout, match
from pipeline.data.sources.names import CLEAN, NOISY, means_noisy, read_names
from pipeline.data.sources.reading import read_files, sha256_files
from pipeline.data.sources.scenes import (
    Files,
    SceneImages,
    as_part,
    check_apart,
    describe,
    describe_equal,
    describe_gray,
    describe_noise,
    describe_shared,
    describe_swapped,
    describe_unlike,
    groups_of,
    images_of,
)
from pipeline.errors import PipelineError
from pipeline.text import printable

_SWAPPED = "rename the folders, or give them by --dataset CLEAN_FOLDER --noisy NOISY_FOLDER if they are right"


class ImageFolder:
    """Images below `folder`, at any depth, in the order of their paths.

    The names of folders say what the images are (`pipeline.data.sources.names`), unless `noisy` does: the noisy images
    of the clean ones in `folder`, or `folder` again, where all are noisy and none is clean. Every page of a stack is an
    image. Alpha is dropped.

    Args:
        folder: of the images.
        noisy: a folder, or "".
        group: as the option: which images a split keeps together.
        white: as the option: the pixel value that becomes 1.
        black: the pixel value that becomes 0.
    """

    licence = "that of the images"

    def __init__(
        self, folder: Path, noisy: str = "", group: str = "", white: float | str = AUTO, black: float = 0
    ) -> None:
        self.folder, self.noisy = folder, Path(noisy) if noisy else None
        self._group, self._white, self._black = group, white, black
        self._sums: dict[str, str] = {}
        self.origin = f"folder of images '{folder.name}'"

    def inputs(self) -> dict[str, str]:
        if not self._sums:
            self._sums = dict(zip(self._used, sha256_files([*self._used.values()]), strict=True))
        return {printable(name): digest for name, digest in self._sums.items()}

    def divide(self, channels: Channels, scratch: Path) -> Division:
        files = dict(zip(self._used, read_files([*self._used.values()], channels, scratch), strict=True))
        self._sums = {name: file.sha256 for name, file in files.items()}
        _check_alike(files)
        scenes = images_of(self._layout.scenes, files, self._group)
        levels = find_levels(
            [image for file in files.values() for image in file.pixels],
            [(file.lowest, file.highest, name) for name, file in files.items()],
            self._white,
            self._black,
        )
        return self._divide(scenes, files, levels)

    def test_labels(self) -> None:
        return None

    @cached_property
    def _found(self) -> dict[str, Found]:
        """What is below the folders, by what the names of its files begin with."""
        if self.noisy is None or _is_same(self.noisy, self.folder):
            return {"": find_images(self.folder)}
        clean = find_images(self.folder, without=self.noisy)
        prefix = f"{self.noisy.resolve().name}/"
        while (self.folder / prefix).is_dir() and not _is_same(self.folder / prefix, self.noisy):
            prefix = f"other {prefix}"
        return {"": clean, prefix: find_images(self.noisy)}

    @cached_property
    def _paths(self) -> dict[str, Path]:
        """The image files by their names: their paths below the folder."""
        for found in self._found.values():
            if not found.images:
                raise PipelineError(f"no images in {found.folder}; known formats are {FORMATS}")
        return {
            prefix + _below(found.folder, path): path for prefix, found in self._found.items() for path in found.images
        }

    @cached_property
    def _layout(self) -> Layout:
        if len(self._found) == 1:
            is_noisy = self.noisy is not None or means_noisy(self.folder.resolve().name)
            return find_layout(read_names([*self._paths]), str(self.folder), is_noisy)
        prefix = next(prefix for prefix in self._found if prefix)
        named = {
            role: [
                replace(file, path=before + file.path, role=role)
                for file in read_names([name[len(before) :] for name in self._paths if of(name)])
            ]
            for role, before, of in (
                (CLEAN, "", lambda name: not name.startswith(prefix)),
                (NOISY, prefix, lambda name: name.startswith(prefix)),
            )
        }
        return match(named[NOISY], named[CLEAN], [], f"{self.folder} with {self.noisy}")

    @cached_property
    def _used(self) -> dict[str, Path]:
        """The files that are in a scene."""
        used = {name for scene in self._layout.scenes for name in (scene.clean, *scene.captures)}
        return {name: path for name, path in self._paths.items() if name in used}

    def _divide(self, scenes: list[SceneImages], files: Files, levels: Levels) -> Division:
        training, validation, test = (
            [scene for scene in scenes if scene.part in names] for names in (("", "train"), ("validation",), ("test",))
        )
        if not training:  # all images are in test/, say: a name that divides nothing
            training, validation, test = scenes, [], []
        check_apart([*training, *validation], test)
        _check_sizes([*training, *validation], files)
        everything = as_part(scenes, files, levels)
        depth = describe_levels(levels, everything.images[0].dtype)
        swapped = describe_swapped(scenes, files, levels)
        is_said = len(self._found) > 1  # which images are noisy: by the option
        lines = [
            f"{describe(scenes, everything)}{self._layout.remarks}; {depth}",
            *(found.left_out for found in self._found.values()),
            describe_gray(files),
            describe_equal(training, files),
            describe_shared(training, validation),
            describe_unlike(scenes, files),
            describe_noise(everything),
            describe_dark(levels, max(file.highest for file in files.values())),
            f"warning: {swapped}" if swapped and is_said else "",
        ]
        return Division(
            as_part(training, files, levels),
            as_part(validation, files, levels) if validation else None,
            as_part(test, files, levels) if test else None,
            groups_of(training),
            tuple(line for line in lines if line),
            tuple(printable(scene.name) for scene in scenes if len(scene.captures) == 1)[:NAMED],
            "" if is_said or not swapped else f"{swapped}; {_SWAPPED}",
        )


def _below(folder: Path, path: Path) -> str:
    """As `path.relative_to(folder).as_posix()`, which is slow for many files."""
    return str(path).removeprefix(f"{str(folder).rstrip(os.sep)}{os.sep}").replace(os.sep, "/")


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError as error:
        raise PipelineError(f"cannot read {printable(error.filename)}: {error.strerror}") from error


def _check_alike(files: Files) -> None:
    """Refuse images of several types, or with several numbers of channels."""
    first, *others = files.items()
    for name, file in others:
        one, other = ((printable(named), found.pixels) for named, found in (first, (name, file)))
        if one[1].dtype != other[1].dtype:
            kinds = (f"{path} has {_kind(pixels.dtype)}" for path, pixels in (one, other))
            raise PipelineError(f"{' and '.join(kinds)}; all images of a dataset must have the same")
        if one[1].shape[1] != other[1].shape[1]:
            kinds = (f"{path} has {_channels(pixels.shape[1])}" for path, pixels in (one, other))
            hint = "; with --channels 1 all become gray" if {one[1].shape[1], other[1].shape[1]} == {1, 3} else ""
            raise PipelineError(f"{' and '.join(kinds)}; all images of a dataset must have the same{hint}")


def _kind(dtype: np.dtype) -> str:
    return "floats" if dtype.kind == "f" else f"{dtype.itemsize * 8} bits"


def _channels(count: int) -> str:
    return {1: "1 channel (gray)", 3: "3 channels (colour)"}.get(count, f"{count} channels")


def _check_sizes(scenes: list[SceneImages], files: Files) -> None:
    """Refuse what cannot be trained on: images of several sizes, one of them smaller than a crop."""
    sizes = {files[scene.name].pixels.shape[-2:]: scene.name for scene in scenes}
    smallest = min(sizes, key=min)
    if len(sizes) > 1 and min(smallest) < SMALLEST_CROP:
        raise PipelineError(
            f"the images differ in size, so crops of them are trained on, of at least {SMALLEST_CROP}x{SMALLEST_CROP} "
            f"pixels, and {printable(sizes[smallest])} is {smallest[0]}x{smallest[1]} (height x width)"
        )
