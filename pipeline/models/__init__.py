"""The models. To add one, write a module with an `nn.Module` and enter it in `MODELS`.

A model is constructed with `channels` and its own options as keywords. It takes float32 [N, channels, H, W] of any
height and width and returns the same shape; in eval mode its output is within [0, 1]. The table holds import paths,
so that the command line can list the names without importing torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError
from pipeline.spec import split_spec, unknown

if TYPE_CHECKING:
    from torch import nn

Option = int | bool


@dataclass(frozen=True)
class Recipe:
    """How to train a model: the values that `--recipe` stands for."""

    images: int = 576_000  # to train on, in all: how many epochs that takes depends on the data
    batch_size: int = 128
    optimizer: str = "adam"  # a key of `pipeline.training.optimizers.OPTIMIZERS`
    lr: float = 0.003  # learning rate at the peak of the schedule
    beta2: float = 0.99  # decay of the squared gradients; with Adam's usual 0.999, a residual U-Net loses 1.2 dB
    schedule: str = "linear"  # a key of `pipeline.training.optimizers.SCHEDULES`
    loss: str = "psnr"  # a key of `pipeline.training.objectives.LOSSES`
    precision: str = "bfloat16"  # of arithmetic in training; the weights are float32
    bn_momentum: float = 0.1  # weight of the newest batch in BatchNorm's running statistics
    color_jitter: float = 0.0  # how far colours are changed, see `pipeline.training.augmentation`; 0 for not at all
    ema: float = 0.0  # decay of the moving average of the weights, which is kept instead of them; 0 for none


# The values of `--recipe`.
RECIPES: dict[str, str] = {
    "fast": "good in seconds to minutes",
    "best": "longer",
    "page": "the course page's, the same for any model",
}
COURSE_PAGE = Recipe(
    images=480_000,  # ten epochs of 48,000 digits
    batch_size=64,
    optimizer="adam",
    lr=0.001,
    beta2=0.999,
    schedule="constant",
    loss="mse",
    precision="float32",
    bn_momentum=0.01,
)


@dataclass(frozen=True)
class ModelEntry:
    """A model in the table, described without importing it."""

    path: str  # module:Class
    summary: str
    fast: Recipe  # takes seconds to minutes; both recipes were chosen on MNIST's validation digits
    best: Recipe  # the best result in reasonable time
    sizes: Mapping[str, Mapping[str, Option]] = field(default_factory=dict)  # the values of --size; first: default
    options: Mapping[str, Option] = field(default_factory=dict)  # with their defaults

    @property
    def module(self) -> str:
        return self.path.partition(":")[0]


MODELS: dict[str, ModelEntry] = {
    "autoencoder": ModelEntry(
        "pipeline.models.autoencoder:Autoencoder",
        "the course page's: strided convolutions, a bottleneck, a sigmoid",
        fast=Recipe(48_000, 64, optimizer="soap", lr=0.01, beta2=0.9, loss="mse", precision="float32"),
        best=Recipe(480_000, 64, optimizer="soap", lr=0.01, beta2=0.9, loss="mse", precision="float32"),
    ),
    "unet": ModelEntry(
        "pipeline.models.unet:UNet",
        "the course's: pairs of convolutions, max-pooling, skips by concatenation, a sigmoid",
        fast=Recipe(images=192_000),
        best=Recipe(),
        options={"width": 16},
    ),
    "resunet": ModelEntry(
        "pipeline.models.resunet:ResUNet",
        "residual blocks at three scales or more, skips by addition; predicts the noise instead of the image",
        fast=Recipe(images=192_000),
        best=Recipe(),
        sizes={"m": {"width": 16}, "s": {"width": 8}, "l": {"width": 32}, "deep": {"width": 16, "scales": 4}},
        options={"width": 16, "scales": 3, "bias": True, "noise-map": False},
    ),
    "dncnn": ModelEntry(
        "pipeline.models.dncnn:DnCNN",
        "Zhang et al. 2017: a chain of convolutions at full resolution that predicts the noise",
        fast=Recipe(images=192_000, lr=0.001),
        best=Recipe(lr=0.001),
        sizes={"s": {"depth": 7, "width": 32}, "m": {"depth": 12, "width": 48}, "l": {"depth": 17, "width": 64}},
        options={"depth": 7, "width": 32},
    ),
}


_HIGHEST = {"scales": 4}  # `pipeline.models.facts.STRIDES` allows no more


def parse_model(spec: str, size: str = "") -> tuple[str, dict[str, Option]]:
    """The name and all options of `NAME[:key=value,…]` at a size.

    Raises:
        PipelineError: an unknown name, option or size, or a value that an option does not take.
    """
    name, given = split_spec(spec, "--model")
    if name not in MODELS:
        raise unknown("--model", name, MODELS)
    entry = MODELS[name]
    if size and size not in entry.sizes:
        raise unknown(f"--size of --model {name}", size, entry.sizes)
    options = {**entry.options, **(entry.sizes[size or next(iter(entry.sizes))] if entry.sizes else {})}
    for key, text in given.items():
        if key not in options:
            raise unknown(f"option of --model {name}", key, options)
        options[key] = _convert(key, text, options[key], f"--model {name}")
    return name, options


def recipe_of(model: str, name: str) -> Recipe:
    """The recipe called `name`, one of `RECIPES`, of a model, a key of `MODELS`."""
    return {"fast": MODELS[model].fast, "best": MODELS[model].best, "page": COURSE_PAGE}[name]


def other_modules(spec: str = "") -> list[str]:
    """The modules of all models except the one of `spec`."""
    name, _ = split_spec(spec, "--model")
    return [entry.module for other, entry in MODELS.items() if other != name]


def build_model(spec: str, size: str = "", channels: int = 1) -> nn.Module:
    """A freshly initialised model, from torch's global random state.

    Args:
        spec: `NAME[:key=value,…]`, the name a key of `MODELS`.
        size: one of the entry's sizes; "" for its first, or if it has none.
        channels: 1 for gray, 3 for colour.
    """
    name, options = parse_model(spec, size)
    module, _, class_name = MODELS[name].path.partition(":")
    keywords = {key.replace("-", "_"): value for key, value in options.items()}
    return getattr(import_module(module), class_name)(channels=channels, **keywords)


def count_parameters(model: nn.Module) -> int:
    """The number of trained values."""
    return sum(parameter.numel() for parameter in model.parameters())


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """The BatchNorm layers of the model."""
    from torch import nn

    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def _convert(key: str, text: str, default: Option, where: str) -> Option:
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise PipelineError(f"{where}: {key}: '{text}' is neither true nor false")
        return text == "true"
    highest = _HIGHEST.get(key, 1024)
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= highest):
        raise PipelineError(f"{where}: {key}: '{text}' is not an integer from 1 to {highest:,}")
    return int(text)
