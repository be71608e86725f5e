"""The models that come with the repository: where they are, and by which names they are called."""

from __future__ import annotations

import difflib
from pathlib import Path

RELEASED = {1: "photo-gray", 3: "photo-color"}  # hand-off folders that come with the repository, by channels
FOLDER = Path(__file__).parents[2] / "artifacts"  # of a clone; elsewhere if only the package is installed


def path_of(model: str) -> Path:
    """The path that `model` is; where nothing is there, that of the released model of this name, if it is one."""
    path = Path(model)
    return FOLDER / model if model in _there() and not path.exists() else path


def hint(model: str) -> str:
    """The released model whose name is nearly `model`, as the end of a message; "" if there is none."""
    nearest = difflib.get_close_matches(Path(model).name, _there(), n=1)
    return f"; did you mean '{nearest[0]}'?" if nearest else ""


def _there() -> list[str]:
    return [name for name in RELEASED.values() if (FOLDER / name).is_dir()]
