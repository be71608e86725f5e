"""The cost of a model and its receptive field, measured on the model itself."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from pipeline.errors import PipelineError
from pipeline.models import MODELS, build_model, count_parameters

STRIDES = 8  # in pixels, a multiple of the strides of every model: shifted by this, an image gives the same result


@torch.no_grad()
def multiply_adds_per_pixel(model: nn.Module, channels: int) -> float:
    """Multiply-adds in convolutions per pixel (of all `channels`) of a large image."""
    side, counts = 64, []

    def count(layer: nn.Conv2d, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        places = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        counts.append(layer.weight.numel() * places.shape[-2] * places.shape[-1])

    # Torch's own counter gives the same, after importing its compiler for seconds.
    convolutions = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))]
    handles = [layer.register_forward_hook(count) for layer in convolutions]
    model.eval()(torch.zeros(1, channels, side, side, device=_device(model)))
    for handle in handles:
        handle.remove()
    return sum(counts) / side**2


def receptive_field(model: nn.Module, channels: int, largest: int = 256) -> int:
    """Side in pixels of the square that one output pixel depends on, or `largest` if that is smaller.

    Measured with a NaN in one input pixel: every output pixel that is computed from it becomes NaN.
    """
    side = 64
    while (field := _field_on(model, channels, side)) > side - 2 * STRIDES and side < largest:
        side *= 2  # the NaNs reach the edge: the image is too small
    return min(field, largest)


@cache
def multiply_adds_of(spec: str, size: str, parameters: int, most_channels: int) -> float | None:
    """As `multiply_adds_per_pixel`, of the model that has so many parameters: that tells how many channels it has.

    None if there is none: the model of another version, or an unknown one.
    """
    # On "meta" no weights take memory, however wide a config in a shared store says that a model is; but that imports
    # torch's compiler, for seconds, which is not needed for a size from the table.
    with torch.device("meta" if ":" in spec else "cpu"):
        for channels in range(1, most_channels + 1):
            try:
                model = build_model(spec, size, channels)
            except PipelineError:
                return None
            if (count := count_parameters(model)) >= parameters:
                return multiply_adds_per_pixel(model, channels) if count == parameters else None
    return None


@torch.no_grad()
def _field_on(model: nn.Module, channels: int, side: int) -> int:
    """The receptive field as far as a square image of this side shows it."""
    reach = 0
    for phase in range(STRIDES):
        place = side // 2 + phase
        image = torch.zeros(1, channels, side, side, device=_device(model))
        image[..., place, place] = torch.nan
        rows = model.eval()(image)[0, 0].isnan().any(dim=1).nonzero()
        reach = max(reach, place - int(rows.min()), int(rows.max()) - place)
    return 2 * reach + 1


def halo(model: nn.Module, channels: int) -> int:
    """Pixels around a tile that its output depends on, rounded up to a multiple of `STRIDES`."""
    reach = receptive_field(model, channels) // 2
    return -(-reach // STRIDES) * STRIDES


def describe_models(channels: int) -> str:
    """A table of all models with their options, in all sizes, the default first."""
    lines = [f"{'model':<14}{'size':<6}{'parameters':>12}{'multiply-adds per pixel':>25}{'receptive field':>18}"]
    for name in MODELS:
        try:
            entry = MODELS[name]
            build_model(name, channels=channels)
        except PipelineError as error:  # of a package that is broken
            lines.append(f"{name:<14}{error}\n")
            continue
        for size in entry.sizes or ("",):
            model = build_model(name, size, channels)
            field = receptive_field(model, channels)
            lines.append(
                f"{name:<14}{size:<6}{count_parameters(model):>12,}"
                f"{multiply_adds_per_pixel(model, channels):>25,.0f}{f'{field} x {field}':>18}"
            )
        options = ", ".join(f"{key}={str(value).lower()}" for key, value in entry.options.items())
        lines.append(f"    {entry.summary}" + (f"\n    options: {options}" if options else "") + "\n")
    return "\n".join(lines)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
