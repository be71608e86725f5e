"""Noise for training and tests, made from text such as `gaussian:variance=0.01`. The kinds are in `kinds`.

Imports no torch, so that the command line can list the kinds at once.
"""

from __future__ import annotations

import math
import re
from dataclasses import fields
from typing import Any

from pipeline.errors import PipelineError
from pipeline.noise.kinds import HIGHEST, NOISES, Clipped, GaussianNoise, Mixed, Noise
from pipeline.noise.ranges import DRAWS, Range
from pipeline.spec import split_spec, unknown

_JOINT = re.compile(r"\+(?=[a-z])")  # not the sign of an exponent

__all__ = [
    "NOISES",
    "Clipped",
    "GaussianNoise",
    "Mixed",
    "Noise",
    "added_modules",
    "describe_noises",
    "make_noise",
    "parse_asked_variance",
    "parse_variance",
    "variance_of_sigma",
    "without_level",
]


def make_noise(spec: str, variance: str = "0.01", clip: bool = False) -> Noise:
    """The noise that a text `NAME[:key=value,…]` describes; NAME is a key of `NOISES`.

    Several of them joined by `+` are for images that have one of them each, see `Mixed`.

    Args:
        spec: the text; for a camera, the profile may follow the name: `camera:Canon EOS 6D iso 6400`.
        variance: `NUMBER` or `LOW:HIGH`, for the kinds that have a variance and whose `spec` does not give it.
        clip: clip the noisy images to [0, 1].

    Raises:
        PipelineError: an unknown name or parameter, or a value that is not allowed.
    """
    noises = [_one(part, variance) for part in _JOINT.split(spec)]
    if len(noises) > 1 and any(noise.is_recorded for noise in noises):
        raise PipelineError(f"--noise {spec}: the noise of the data goes with no other")
    noise = Mixed(tuple(noises)) if len(noises) > 1 else noises[0]
    return Clipped(noise) if clip else noise


def _one(spec: str, variance: str) -> Noise:
    if spec.startswith("camera:") and "=" not in spec:
        spec = spec.replace(":", ":profile=", 1)
    name, given = split_spec(spec, "--noise")
    if name not in NOISES:
        raise unknown("--noise", name, NOISES)
    defaults = {field.name: field.default for field in fields(NOISES[name])}
    if "variance" in defaults:
        given = {"variance": variance, **given}
    values: dict[str, Any] = {}
    for key, text in given.items():
        if key not in defaults:
            raise unknown(f"parameter of --noise {name}", key, defaults)
        if key == "draw" and text not in DRAWS:
            raise unknown(f"--noise {name}: draw", text, DRAWS)
        if isinstance(defaults[key], Range):
            values[key] = Range.parse(text, f"--noise {name}: {key}", HIGHEST.get(key, math.inf))
        else:
            values[key] = text
    noise = NOISES[name](**values)
    noise.check()
    return noise


def added_modules(spec: str) -> list[str]:
    """The modules of the kinds in a spec that the pipeline does not have."""
    return NOISES.modules(part.partition(":")[0].strip() for part in _JOINT.split(spec))


def without_level(spec: str) -> str:
    """The spec of a noise, without what is only known about it: recorded noise of a known level is the same noise."""
    return re.sub(r"^recorded:\S+", "recorded", spec)


def parse_variance(text: str) -> Range:
    """The value of `--variance`: a number above 0 and up to 100, or LOW:HIGH of two such numbers.

    Raises:
        PipelineError: `text` is neither.
    """
    return Range.parse(text, "--variance", HIGHEST["variance"], zero=False)


def parse_asked_variance(text: str) -> Range:
    """As `parse_variance`, but only up to 1, the range of the pixels: above, a standard deviation was meant.

    Raises:
        PipelineError: `text` is neither a number above 0 and up to 1, nor a range of two.
    """
    try:
        is_sigma = parse_variance(text).high > 1
    except PipelineError:
        is_sigma = False
    if is_sigma:
        raise PipelineError(
            f"--variance: {text} is more than 1, the range of the pixels; for a standard deviation of {text} out of "
            f"255 give --sigma {text}, and for such a variance on purpose --noise gaussian:variance={text}"
        )
    return Range.parse(text, "--variance", 1, zero=False)


def variance_of_sigma(text: str) -> str:
    """The value of `--variance` for one of `--sigma`: (sigma / 255)^2, to six digits.

    Args:
        text: a standard deviation above 0 and up to 255, of pixels from 0 to 255, or LOW:HIGH of two.

    Raises:
        PipelineError: it is neither.
    """
    sigma = Range.parse(text, "--sigma", 255, zero=False)
    return ":".join(f"{(bound / 255) ** 2:.6g}" for bound in dict.fromkeys((sigma.low, sigma.high)))


def describe_noises() -> str:
    """A text with every kind, its parameters and their defaults, and where these come from."""
    lines = []
    for name in NOISES:
        try:
            kind = NOISES[name]
        except PipelineError as error:
            lines.append(f"{name}\n    {error}\n")
            continue
        parameters = ", ".join(f"{field.name}={field.default}" for field in fields(kind))
        text = "\n".join(f"    {line.strip()}".rstrip() for line in (kind.__doc__ or "").strip().splitlines())
        lines.append(f"{name}{':' if parameters else ''}{parameters}\n{text}\n")
    draws = ", ".join(DRAWS)
    return (
        "\n".join(lines)
        + f"\nA parameter that is a number may be LOW:HIGH; draw says how a number is drawn: {draws}.\n"
    )
