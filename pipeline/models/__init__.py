"""The models. To add one, write a module with an `nn.Module` and enter it in `MODELS`.

A model is constructed with `channels` and its own options as keywords. It takes float32 [N, channels, H, W] of any
height and width and returns the same shape; in eval mode its output is within [0, 1]. The table holds import paths,
so that the command line can list the names without importing torch. Others need not write into it: an installed package
adds models by entry points, and any class can be named by its path; see `pipeline.plugins`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError
from pipeline.plugins import Table, import_class, is_allowed, split_path
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


GENERAL = {"fast": Recipe(images=192_000), "best": Recipe()}  # what fits most networks


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


_OWN: dict[str, ModelEntry] = {
    "autoencoder": ModelEntry(
        "pipeline.models.autoencoder:Autoencoder",
        "the course page's: strided convolutions, a bottleneck, a sigmoid",
        fast=Recipe(48_000, 64, optimizer="soap", lr=0.01, beta2=0.9, loss="mse", precision="float32"),
        best=Recipe(480_000, 64, optimizer="soap", lr=0.01, beta2=0.9, loss="mse", precision="float32"),
    ),
    "unet": ModelEntry(
        "pipeline.models.unet:UNet",
        "the course's: pairs of convolutions, max-pooling, skips by concatenation, a sigmoid",
        fast=GENERAL["fast"],
        best=GENERAL["best"],
        options={"width": 16},
    ),
    "resunet": ModelEntry(
        "pipeline.models.resunet:ResUNet",
        "residual blocks at three scales or more, skips by addition; predicts the noise instead of the image",
        fast=GENERAL["fast"],
        best=GENERAL["best"],
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


def _added(name: str, member: object) -> ModelEntry:
    from pipeline.models.added import entry_of

    return entry_of(member)


MODELS = Table("model", _OWN, _added)
_KEY, _VALUE = re.compile(r"[a-z][a-z0-9-]*"), re.compile(r"[0-9]{1,4}|true|false")  # of an option of a class
_HIGHEST = {"scales": 4}  # `pipeline.models.facts.STRIDES` allows no more


def parse_model(spec: str, size: str = "") -> tuple[str, dict[str, Option]]:
    """The name and all options of `NAME[:key=value,…]` or `package.module:Class[:key=value,…]` at a size.

    Raises:
        PipelineError: an unknown name, option or size, or a value that an option does not take; or a class that cannot
            be imported, or that the user has not named.
    """
    name, given = _split(spec)
    entry = _entry(name)
    if size and size not in entry.sizes:
        raise unknown(f"--size of --model {name}", size, entry.sizes)
    options = {**entry.options, **(entry.sizes[size or next(iter(entry.sizes))] if entry.sizes else {})}
    for key, text in given.items():
        if key not in options:
            raise unknown(f"option of --model {name}", key, options)
        options[key] = _convert(key, text, options[key], f"--model {name}")
    return name, options


def check_model(spec: str, size: str = "") -> None:
    """As `parse_model`, but no class is imported that the user has not named: its options need only look like some."""
    if not (path := path_of(spec)) or is_allowed(path):
        parse_model(spec, size)
        return
    if size:
        raise unknown(f"--size of --model {path}", size, ())
    for key, text in _split(spec)[1].items():  # names of folders are made of them
        if not (_KEY.fullmatch(key) and _VALUE.fullmatch(text)):
            raise PipelineError(
                f"--model {path}: '{key}={text}' is not an option; its value is a number, true or false"
            )


def path_of(spec: str) -> str:
    """The `package.module:Class` of a spec; "" where it has the name of a model in the table."""
    return "" if spec.partition(":")[0].strip() in MODELS else split_path(spec)[0]


def short_name(spec: str, size: str = "") -> str:
    """The model with its size and options, such as `autoencoder`, `resunet-l`, `unet-width8`; a class by its name."""
    name, options = _split(spec)
    parts = (name.rpartition(":")[2], size, *map("".join, options.items()))
    return "-".join(part for part in parts if part)


def recipe_of(spec: str, name: str) -> Recipe:
    """The recipe called `name`, one of `RECIPES`, of a model."""
    if name == "page":
        return COURSE_PAGE
    if path_of(spec):
        return GENERAL[name]  # known without an import
    return getattr(MODELS[_split(spec)[0]], name)


def other_modules(spec: str = "") -> list[str]:
    """The modules of all models of the pipeline except the one of `spec`."""
    name = _split(spec)[0] if spec else ""
    return [entry.module for other, entry in _OWN.items() if other != name]


def added_modules(spec: str) -> list[str]:
    """The module of the model of `spec`, if the pipeline does not have it."""
    name, _ = _split(spec)
    if name in MODELS:
        return MODELS.modules([name])
    return [_entry(name).module]  # refused, if the user has not named it


def build_model(spec: str, size: str = "", channels: int = 1) -> nn.Module:
    """A freshly initialised model, from torch's global random state.

    Args:
        spec: `NAME[:key=value,…]`, the name a key of `MODELS`, or `package.module:Class[:key=value,…]`.
        size: one of the entry's sizes; "" for its first, or if it has none.
        channels: 1 for gray, 3 for colour.

    Raises:
        PipelineError: as `parse_model`; or a model of others is none.
    """
    name, options = parse_model(spec, size)
    path = _entry(name).path
    keywords = {"channels": channels, **{key.replace("-", "_"): value for key, value in options.items()}}
    if name not in _OWN:
        from pipeline.models.added import build

        return build(path, keywords)
    module, _, class_name = path.partition(":")
    return getattr(import_module(module), class_name)(**keywords)


def _split(spec: str) -> tuple[str, dict[str, str]]:
    """The name, or the path of the class, and the options as they were given."""
    if path := path_of(spec):
        return path, split_spec(f"{path.rpartition(':')[2]}:{split_path(spec)[1]}", "--model")[1]
    name, given = split_spec(spec, "--model")
    if name not in MODELS:
        raise unknown("--model", name, MODELS)
    return name, given


def _entry(name: str) -> ModelEntry:
    if name in MODELS:
        return MODELS[name]
    from pipeline.models.added import entry_of

    return entry_of(import_class(name), name)


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
