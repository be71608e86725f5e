"""The cost of a model and its receptive field, measured on the model itself."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.errors import PipelineError
from pipeline.models import MODELS, build_model, count_parameters

STRIDES = 8  # in pixels, a multiple of the strides of every model: shifted by this, an image gives the same result


@torch.no_grad()
def multiply_adds_per_pixel(model: nn.Module, channels: int) -> float:
    """Multiply-adds in convolutions per pixel (of all `channels`) of a large image."""
    side = 128
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, channels, side, side, device=_device(model)))
    return counter.get_total_flops() / 2 / side**2  # the counter counts a multiply-add as two


def receptive_field(model: nn.Module, channels: int, largest: int = 256) -> int:
    """Side in pixels of the square that one output pixel depends on, or `largest` if that is smaller.

    Measured with a NaN in one input pixel: every output pixel that is computed from it becomes NaN.
    """
    side = 64
    while (field := _field_on(model, channels, side)) > side - 2 * STRIDES and side < largest:
        side *= 2  # the NaNs reach the edge: the image is too small
    return min(field, largest)


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
