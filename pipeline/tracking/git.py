"""Which commit is running, and how it was edited since."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pipeline.tracking import names

_PACKAGE = Path(__file__).parents[1]
_MOST = 2**20  # bytes of a difference; that of a few edits is a thousandth of it


def git_tags() -> dict[str, str]:
    """The tags with the commit of the running source, and whether it was edited since; none outside of a checkout."""
    try:
        _git("ls-files", "--error-unmatch", __file__)  # an installed copy may lie inside someone else's checkout
        return {
            names.GIT_COMMIT: _git("rev-parse", "HEAD"),
            names.GIT_DIRTY: str(bool(_git("status", "--porcelain", "--", "."))).lower(),
        }
    except (OSError, subprocess.SubprocessError):
        return {}


def source_diff() -> str:
    """How the source of the package differs from the commit, new files included, for `git apply`.

    "" if it does not, and outside of a checkout. What is longer than a mebibyte is cut off, and says so.
    """
    if git_tags().get(names.GIT_DIRTY) != "true":
        return ""
    # Neither colours nor programs that somebody's configuration names.
    plain = ("diff", "--no-color", "--no-ext-diff", "--no-textconv")
    try:
        parts = [_git(*plain, "HEAD", "--", ".")]
        for name in _git("ls-files", "--others", "--exclude-standard", "--full-name").splitlines():
            parts.append(_git(*plain, "--no-index", "--", "/dev/null", name, folder=_PACKAGE.parent, codes=(0, 1)))
            if sum(map(len, parts)) > _MOST:
                break
    except (OSError, subprocess.SubprocessError) as error:
        return f"The source was edited; how cannot be said: {error}\n"
    text = "".join(f"{part}\n" for part in parts if part)
    return text if len(text) <= _MOST else f"{text[:_MOST]}\n(cut off: it is longer than {_MOST:,} characters)\n"


def _git(*arguments: str, folder: Path | None = None, codes: tuple[int, ...] = (0,)) -> str:
    """What git answers in a folder, by default that of the package.

    Raises:
        subprocess.SubprocessError: its exit code is not one of `codes`, or it takes too long.
    """
    command = ["git", "-C", str(folder or _PACKAGE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=30)
    if done.returncode not in codes:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout.strip("\n")
