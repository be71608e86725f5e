"""Files and folders that are complete or not there: written beside the target, then renamed; and digests."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.errors import PipelineError

_LOCK, _FORMER = "unfinished.lock", "former"  # in a scratch folder
_UNFINISHED = ".unfinished-"  # in its name


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def open_file(path: Path) -> BufferedReader:
    """A file, open for reading, which is no pipe: to open one, or to read a device, may take for ever.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # that a folder is one, the system says
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return path.open("rb")


def sha256_file(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        PipelineError: it cannot be read, or holds something else.
    """
    try:
        content = parse_json(path.read_bytes())
    except OSError as error:
        raise PipelineError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise PipelineError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise PipelineError(f"{path} is damaged: it does not hold names and values")
    return content


def cache_folder() -> Path:
    """Where what can be made or fetched again is kept for the next time. It need not exist.

    Raises:
        RuntimeError: nobody has said where this user's home is.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "denoise-pipeline"


def inside(folder: Path, name: str) -> Path:
    """The path of what a text from elsewhere, such as a record or a request, calls `name` in `folder`.

    Raises:
        PipelineError: the name leads out of the folder, by its parts or by a link on the way.
    """
    parts = Path(name).parts
    if not parts or Path(name).anchor or ".." in parts or "\0" in name:
        raise PipelineError(f"'{name}' is not a path inside of {folder}")
    path = folder
    for part in parts:
        path /= part
        try:
            linked = path.is_symlink()
        except OSError as error:
            raise PipelineError(f"cannot read {path}: {error.strerror}") from error
        if linked:
            raise PipelineError(f"{path} is a link; only what lies in {folder} itself is used")
    return path


def parse_json(text: str | bytes) -> Any:
    """The value of a text that may be anything.

    Raises:
        ValueError: it is not JSON, or nested as no file of the pipeline is.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`; on success it replaces `target`, on failure it is removed.

    A folder at `target` is replaced as a whole, never mixed with the new one. If the process is killed while it is out
    of its place, the next that wants to replace it, or `doctor --fix`, puts it back first.

    Raises:
        PipelineError: it cannot be written.
    """
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for scratch in unfinished_folders(target.parent):
            if _target_of(scratch) == target:
                finish_folder(scratch)
        with scratch_folder(target) as scratch:
            contents = scratch / "new"
            contents.mkdir()
            yield contents
            if target.exists():
                target.rename(scratch / _FORMER)
            contents.rename(target)


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder for what `target` is made from, and remove it; one that is left can be told from others."""
    # Same parent, so that renaming stays on one file system.
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}{_UNFINISHED}", dir=target.parent))
    try:
        # A process that dies loses it. The folder was empty until now: if another process took it for a leftover, this
        # makes it again.
        with FileLock(scratch / _LOCK):
            yield scratch
    finally:
        _put_away(scratch)


def unfinished_folders(parent: Path) -> list[Path]:
    """The folders of `scratch_folder` in `parent` whose process is gone."""
    begun = [path for path in parent.glob(f".*{_UNFINISHED}*/") if _is_empty(path)]  # killed before it had the lock
    return begun + [path.parent for path in parent.glob(f".*/{_LOCK}") if not is_held(path)]


def finish_folder(scratch: Path) -> Path | None:
    """Remove one of the `unfinished_folders`; the path of the folder that it had put aside, if that was put back."""
    if _is_empty(scratch):
        with suppress(OSError):  # no longer
            scratch.rmdir()
        return None
    try:
        with FileLock(scratch / _LOCK).acquire(timeout=0):
            return _put_away(scratch)
    except Timeout:  # another process does it
        return None


def is_held(lock: Path) -> bool:
    """Whether a process on this machine holds the `FileLock` of this file, as far as this user can tell."""
    if not lock.exists():
        return False
    try:
        FileLock(lock).acquire(timeout=0).lock.release()
    except (Timeout, OSError):
        return True
    return False


def _target_of(scratch: Path) -> Path:
    return scratch.with_name(scratch.name[1:].rpartition(".")[0])


def _put_away(scratch: Path) -> Path | None:
    former, target = scratch / _FORMER, _target_of(scratch)
    is_needed = former.exists() and not target.exists()
    if is_needed:
        former.rename(target)
    with suppress(OSError):
        for path in scratch.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink()
        (scratch / _LOCK).unlink(missing_ok=True)  # last: without it, nobody would know whose the rest is
        scratch.rmdir()
    return target if is_needed else None


def _is_empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except OSError:  # it is gone
        return False


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, `path` is written: an error of the system, which may not say where it is from, becomes one that does."""
    try:
        yield
    except OSError as error:
        # NumPy says "10 requested and 0 written", and not why.
        reason = error.strerror or (f"{error} (is the disk full?)" if "requested and" in str(error) else error)
        raise PipelineError(f"cannot write {path}: {reason}") from error


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
