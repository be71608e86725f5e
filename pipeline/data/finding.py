"""Finding the images below a folder, whatever else is in it."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.data.image_files import HEAD, SUFFIXES, format_of
from pipeline.errors import PipelineError
from pipeline.text import printable

_SYSTEM = {"@eaDir", "__MACOSX", "Thumbs.db", "desktop.ini"}  # what file managers and disk stations leave
# Raw files of cameras that begin as TIFF files do; they are none that can be read here.
_RAW = {".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".nef", ".nrw", ".pef", ".srw"}
_NAMED = 3  # files of a kind that a message names; it counts the others


@dataclass(frozen=True)
class Found:
    """What is below a folder, each in the order of the paths. Hidden and system files and folders are in none."""

    folder: Path
    images: list[Path] = field(default_factory=list)  # by their content; or by their name, and then they are damaged
    others: list[Path] = field(default_factory=list)  # are not images
    repeats: list[Path] = field(default_factory=list)  # links to a file or a folder that is found already

    @property
    def left_out(self) -> str:
        """One line on what is not in `images`; "" where there is nothing to say."""
        kinds = (
            (self.others, "file that is not an image", "files that are not images"),
            (self.repeats, "link to what is found already", "links to what is found already"),
        )
        parts = [
            f"{len(paths):,} {one if len(paths) == 1 else many}: {self._names(paths)}"
            for paths, one, many in kinds
            if paths
        ]
        return f"left out: {'; '.join(parts)}" if parts else ""

    def _names(self, paths: list[Path]) -> str:
        names = [printable(path.relative_to(self.folder)) for path in paths[:_NAMED]]
        return ", ".join([*names, *(["…"] if len(paths) > _NAMED else [])])


def find_images(folder: Path, without: Path | None = None) -> Found:
    """All images below `folder`, at any depth.

    What an image is, its first bytes say. A file that has the name of an image is in the list as well, so that reading
    it tells what is wrong with it. Links are followed, after everything else is found, so that each file is found
    once, under its own name if that is in `folder`.

    Args:
        folder: where to look.
        without: a folder that is left out, wherever it is.

    Raises:
        PipelineError: a folder cannot be read.
    """
    found = Found(folder)
    seen: set[tuple[int, int]] = set()  # files and folders by device and inode
    skipped = None
    if without is not None and without.is_dir() and not without.samefile(folder):
        skipped = _identity(without.stat())
        seen.add(skipped)
    links: deque[Path] = deque()
    _walk(folder, found, seen, links)
    while links:
        path = links.popleft()
        try:
            status = path.stat()
        except OSError:
            _sort_in(path, found)  # a broken link: reading it tells why
            continue
        if _identity(status) in seen:
            if _identity(status) != skipped:
                found.repeats.append(path)
        elif path.is_dir():
            _walk(path, found, seen, links)
        else:
            seen.add(_identity(status))
            _sort_in(path, found)
    for paths in (found.images, found.others, found.repeats):
        paths.sort()
    return found


def _walk(start: Path, found: Found, seen: set[tuple[int, int]], links: deque[Path]) -> None:
    """Sort in every file below `start` that was not seen, and append the links to `links`."""
    folders = [start]
    while folders:
        folder = folders.pop()
        try:
            status = folder.stat()
            if _identity(status) in seen:
                continue
            seen.add(_identity(status))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise PipelineError(f"cannot read {printable(folder)}: {error.strerror}") from error
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _SYSTEM:
                continue
            path = folder / entry.name
            if entry.is_symlink():
                links.append(path)
            elif entry.is_dir():
                folders.append(path)
            else:
                seen.add((status.st_dev, entry.inode()))
                _sort_in(path, found)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _sort_in(path: Path, found: Found) -> None:
    suffix = path.suffix.lower()
    is_image = suffix in SUFFIXES or (suffix not in _RAW and format_of(_head(path)) is not None)
    (found.images if is_image else found.others).append(path)


def _head(path: Path) -> bytes:
    """The first bytes of a file; none of what is not a file, or cannot be read."""
    if not path.is_file():  # to open a named pipe would wait for ever
        return b""
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(HEAD) or b""
    except OSError:
        return b""
