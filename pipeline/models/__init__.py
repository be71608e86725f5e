"""The models. Adding one is a module with an `nn.Module`, and an entry in `MODELS`.

A model takes float32 [N, 1, H, W] of any height and width and returns the same shape. The table holds import
paths, so that the command line can list the names without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

MODELS: dict[str, str] = {
    "autoencoder": "pipeline.models.autoencoder:Autoencoder",
}


def build_model(name: str) -> nn.Module:
    """A freshly initialised model, by its key in `MODELS`, initialised from torch's global random state."""
    module, _, class_name = MODELS[name].partition(":")
    return getattr(import_module(module), class_name)()


def count_parameters(model: nn.Module) -> int:
    """The number of trained values."""
    return sum(parameter.numel() for parameter in model.parameters())
