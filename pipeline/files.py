"""Files and folders that are complete or not there: written beside the target, then renamed; and digests."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import PipelineError


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def printable(path: Path | str) -> str:
    """A path as text that every terminal, file and database takes: bytes that are not UTF-8 as `\\xe9`, in one line."""
    if str(path).isprintable():
        return str(path)
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`; on success it replaces `target`, on failure it is removed.

    A folder at `target` is replaced as a whole, never mixed with the new one.

    Raises:
        PipelineError: it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Same parent, so that the rename stays on one file system.
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise PipelineError(f"cannot write {target}: {error.strerror or error}") from error
    try:
        contents = scratch / "new"
        contents.mkdir()
        yield contents
        former = scratch / "former"
        if target.exists():
            target.rename(former)
        try:
            contents.rename(target)
        except OSError:
            if former.exists():
                former.rename(target)
            raise
    except OSError as error:
        raise PipelineError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_file(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Write a file beside `path` and rename it: complete or not at all.

    Args:
        sync: wait until it is on the disk, so that it survives even a power failure.

    Raises:
        OSError: it cannot be written; `path` is as it was before.
    """
    scratch = path.with_name(f".{sha256_bytes(os.fsencode(path.name))[:16]}.new")  # short, however long the name is
    try:
        with scratch.open("wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
