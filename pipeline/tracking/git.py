"""Which commit is running."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pipeline.tracking import names

_PACKAGE = Path(__file__).parents[1]


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


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(_PACKAGE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
