"""The measured noise of cameras, from darktable's file of profiles: a pixel x in [0, 1] has the variance a x + b."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

from pipeline.errors import PipelineError


def camera_profile(words: str) -> tuple[float, float]:
    """a and b of the green channel of the one profile in which all `words` occur.

    Raises:
        PipelineError: there is no file of profiles, or it does not hold exactly one such profile.
    """
    places = [os.environ.get("DARKTABLE_NOISEPROFILES"), "/usr/share/darktable/noiseprofiles.json"]
    path = next((Path(place) for place in places if place and Path(place).is_file()), None)
    if path is None:
        raise PipelineError(
            "--noise camera: darktable's noiseprofiles.json was not found; install darktable, "
            "or set DARKTABLE_NOISEPROFILES to the path of that file"
        )
    return _profile_in(path, words)


@cache  # the file has megabytes and is needed for every batch
def _profile_in(path: Path, words: str) -> tuple[float, float]:
    try:
        profiles = {
            f"{maker['maker']} {model['model']} ISO {profile['iso']}": (profile["a"][1], profile["b"][1])
            for maker in json.loads(path.read_text())["noiseprofiles"]
            for model in maker["models"]
            for profile in model["profiles"]
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise PipelineError(f"--noise camera: cannot read {path}: {type(error).__name__}: {error}") from error
    wanted = words.lower().split()
    found = [name for name in profiles if set(wanted) <= set(name.lower().split())] if wanted else []
    exact = [name for name in found if len(name.split()) == len(wanted)]
    if len(exact or found) != 1:
        some = ", ".join(f"'{name}'" for name in (found or list(profiles))[:4])
        raise PipelineError(
            f"--noise camera: '{words}' fits {len(found)} profiles of {path.name}; "
            f"give maker, model and ISO of one, such as {some}"
        )
    return profiles[(exact or found)[0]]
