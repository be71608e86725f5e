"""Models that are not in the table of the pipeline: what others register or name is a class, which says its options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError, one_line
from pipeline.models import GENERAL, ModelEntry, Option
from pipeline.plugins import import_path

if TYPE_CHECKING:
    from torch import nn

_SIDES = (19, 24)  # pixels: any height and width must do


def entry_of(member: object, path: str = "") -> ModelEntry:
    """The entry of a model that a package adds: a `ModelEntry`, or the class of the model.

    Of a class, the parameters of the constructor whose defaults are integers or switches are its options, and the
    recipes are those that fit most networks.

    Args:
        member: the entry or the class.
        path: `module:Class`, where it is known.

    Raises:
        PipelineError: it is neither, or its constructor needs more than `channels`.
    """
    if isinstance(member, ModelEntry):
        return member
    if not isinstance(member, type):
        raise PipelineError(f"a {type(member).__name__} is neither a class nor a pipeline.models.ModelEntry")
    summary = (inspect.getdoc(member) or "").partition("\n")[0].rstrip(".")
    path = path or f"{member.__module__}:{member.__qualname__}"
    return ModelEntry(path, summary, GENERAL["fast"], GENERAL["best"], options=_options(member))


def _options(cls: type) -> dict[str, Option]:
    options: dict[str, Option] = {}
    parameters = dict(inspect.signature(cls).parameters)
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if "channels" not in parameters and not takes_all:
        raise PipelineError(f"the constructor of {cls.__name__} does not take channels=1 or 3")
    for name, parameter in parameters.items():
        if name == "channels" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.default is parameter.empty:
            raise PipelineError(f"the constructor of {cls.__name__} needs {name}; give it a default")
        if isinstance(parameter.default, int):  # True and False are, too
            options[name.replace("_", "-")] = parameter.default
    return options


def build(path: str, keywords: Mapping[str, Option]) -> nn.Module:
    """The model of the class at `module:Class`, if it is one: images of any size become images of the same size.

    Args:
        path: of the class, which the user has named or installed.
        keywords: of its constructor, `channels` among them.

    Raises:
        PipelineError: it is no such model, and why.
    """
    import torch

    cls = import_path(path, f"--model: {path}")
    try:
        model = cls(**keywords)
    except Exception as error:  # the code of others can raise anything
        given = ", ".join(f"{key}={value}" for key, value in keywords.items())
        raise PipelineError(f"--model: {path} cannot be made with {given}: {one_line(error)}") from error
    if not isinstance(model, torch.nn.Module):
        raise PipelineError(f"--model: {path} is not a torch.nn.Module")
    image = torch.zeros(1, keywords["channels"], *_SIDES)
    try:
        with torch.no_grad():
            output = model.eval()(image)
    except Exception as error:  # the code of others can raise anything
        raise PipelineError(
            f"--model: {path} does not take an image of shape {list(image.shape)}: {one_line(error)}"
        ) from error
    if getattr(output, "shape", None) != image.shape:
        found = list(output.shape) if hasattr(output, "shape") else type(output).__name__
        raise PipelineError(
            f"--model: {path} makes {found} of an image of shape {list(image.shape)}; it must keep the shape"
        )
    return model.train()
