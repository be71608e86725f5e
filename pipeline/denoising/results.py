"""The folder for results: what `denoise` wrote there is replaced, and nothing else is."""

from __future__ import annotations

from pathlib import Path

from pipeline.files import sha256_bytes, sha256_file, write_file

_LIST = ".denoised"  # in the folder: the SHA-256 of every file that was written to it, one a line


class Results:
    """A folder, which need not exist, and the list of what was written to it."""

    def __init__(self, folder: Path) -> None:
        self._list = folder / _LIST
        self._folders: set[Path] = set()  # that are there
        self._written = set(self._list.read_text(errors="replace").split()) if self._list.is_file() else set()

    def is_foreign(self, path: Path) -> bool:
        """Whether there is something that was not written by `denoise`, or was changed since.

        Raises:
            OSError: it cannot be read.
        """
        return path.exists() and (not path.is_file() or sha256_file(path) not in self._written)

    def write(self, path: Path, data: bytes) -> None:
        """Write a file that is complete or not there, whatever is there now.

        Raises:
            OSError: it cannot be written; what was there before is still there.
        """
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        digest = sha256_bytes(data)
        if digest not in self._written:  # the list first: a file that is not in it would never be replaced
            self._written.add(digest)
            with self._list.open("a") as file:
                file.write(f"\n{digest}\n")  # the last line may be half of one, from a full disk
        write_file(path, data)
