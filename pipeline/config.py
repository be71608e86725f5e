"""Everything that decides the result of a run: one frozen object, filled from the command line, stored with the run."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple

from pipeline.errors import ArgumentError, PipelineError
from pipeline.files import parse_json
from pipeline.models import RECIPES, Recipe, check_model, recipe_of, short_name
from pipeline.noise import Noise, make_noise, parse_variance
from pipeline.spec import unknown

# Every run is also scored at these variances of Gaussian noise, so that all runs share a measure ...
REFERENCE_VARIANCES = (0.001, 0.01, 0.1)
# ... and its PSNR is drawn over these, from a clean image to far beyond what anyone trains at.
CURVE_VARIANCES = (0.0, 0.0001, 0.0005, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3)

MAX_CHANNELS = 64  # of an image
AUTO: Final = "auto"  # what follows from the model's recipe, or from the data
_AUTO: Any = AUTO  # the default of fields that never keep it
# The options that decide which images are prepared. They stay as they were given: what was found is with the data.
DATA = ("dataset", "noisy", "group", "channels", "white", "black", "data_dir", "seed")
_RECIPE = tuple(field.name for field in fields(Recipe) if field.name != "images")
RECIPE = ("epochs", *_RECIPE)  # what follows from the recipe if it is AUTO
OF_DATA = ("noise", "target", "crop", "crop_by")  # what follows from the data if it is AUTO
# Targets, as in `pipeline.training.objectives.TARGETS`, that need white Gaussian noise of one known level ...
OF_KNOWN_LEVEL = ("sure", "r2r")
# ... and those whose loss is an estimate by small differences: it may be below 0, and bfloat16 is too coarse for it.
ESTIMATES = ("sure", "self")
# Pixels: images of one size up to this side, and those too narrow for crops, are trained on as a whole ...
_WHOLE = 128
_CROP = 64  # ... others in crops with sides of this many pixels, or of the smallest image
SMALLEST_CROP = 32  # pixels


class Interval(NamedTuple):
    """The finite numbers from `low`, which may be excluded, to `high`."""

    kind: type[int] | type[float]
    low: float
    high: float
    low_allowed: bool = True

    def admit(self, number: float) -> bool:
        above = number >= self.low if self.low_allowed else number > self.low
        return above and number <= self.high and math.isfinite(number)

    def __str__(self) -> str:
        article, noun = ("an", "integer") if self.kind is int else ("a", "number")
        low, high = (f"{bound:,}" if isinstance(bound, int) else f"{bound:,g}" for bound in (self.low, self.high))
        bounds = f"from {low} to {high}" if self.low_allowed else f"above {low} and up to {high}"
        return f"{article} {noun} {bounds}"


# What the fields of a config may be, on the command line and in a `config.json`: numbers in these intervals ...
NUMBERS = {
    "channels": Interval(int, 1, MAX_CHANNELS),
    "white": Interval(float, 0, 3e38, low_allowed=False),
    "black": Interval(float, -3e38, 3e38),
    "seed": Interval(int, 0, 2**32 - 1),
    "crop": Interval(int, 0, 4096),
    "epochs": Interval(int, 1, 100_000),
    "batch_size": Interval(int, 1, 1_000_000),
    "lr": Interval(float, 0, 1e30, low_allowed=False),
    "beta2": Interval(float, 0, 0.999999),
    "bn_momentum": Interval(float, 0, 1, low_allowed=False),
    "color_jitter": Interval(float, 0, 3),
    "ema": Interval(float, 0, 0.999999),
}
STRENGTH = Interval(float, 0, 1.5)  # of denoising
_STAY_AUTO = ("channels", "white")  # what is found is with the data
# ... and names. Those of functions are the keys of the tables in `pipeline.training`.
CHOICES = {
    "target": ("clean", "noisy", "noisy2noisy", "self", "sure", "r2r"),
    "crop_by": ("detail", "area"),
    "recipe": tuple(RECIPES),
    "optimizer": ("adam", "soap"),
    "schedule": ("linear", "constant"),
    "loss": ("mse", "rmse", "psnr"),
    "precision": ("float32", "bfloat16"),
    "device": ("auto", "cpu", "cuda", "mps"),
}


@dataclass(frozen=True)
class DataFacts:
    """What the options that follow from the data depend on. The defaults are those of MNIST."""

    layout: str = "clean"  # as `pipeline.data.images.Part.layout`
    has_clean: bool = True
    images: int = 48_000  # to train on
    pixels: int = 48_000 * 784  # height x width of all of them together
    smallest: int = 28  # pixels: the smallest side of an image to train on or to validate
    largest: int = 28
    one_size: bool = True

    @property
    def noise(self) -> str:
        return "gaussian" if self.layout == "clean" else "recorded"

    @property
    def target(self) -> str:
        if self.has_clean:
            return "clean"
        return "noisy2noisy" if self.layout == "bursts" else "self"

    @property
    def crop(self) -> int:
        if self.one_size and (self.largest <= _WHOLE or self.smallest < SMALLEST_CROP):
            return 0
        return min(_CROP, self.smallest)

    @property
    def crop_by(self) -> str:
        return "detail" if self.has_clean else "area"  # noise would count as detail

    def per_epoch(self, crop: int) -> int:
        """Images that training sees in an epoch."""
        return max(1, self.pixels // crop**2) if crop else self.images


@dataclass(frozen=True)
class Config:
    """The options of a training. The defaults are those of the command line.

    Those in `RECIPE` and `OF_DATA` are AUTO unless they are given: they get what follows from the model's recipe, and,
    until `settled` knows which data, from images like MNIST. A copy that `dataclasses.replace` makes keeps its values.

    Raises:
        PipelineError: a value that an option cannot have, or options that do not go together.
    """

    _auto: ClassVar[tuple[str, ...]] = ()  # of an instance: the fields that were AUTO

    dataset: str = "mnist"  # a name in `pipeline.data.sources.DATASETS`, or the path of a folder of images
    data_dir: str = "data"  # where prepared and downloaded data live
    noisy: str = ""  # folder of noisy images whose clean ones are the dataset; "" for none
    group: str = ""  # what a split must not separate: "folder", or a pattern for the names; "" for each scene alone
    channels: int | Literal["auto"] = AUTO  # 1 for gray, 3 for colour (RGB); AUTO for what the data have
    white: float | Literal["auto"] = AUTO  # the pixel value that becomes 1
    black: float = 0.0  # the pixel value that becomes 0
    seed: int = 0  # of the train/validation split, the initial weights, the batch order and the training noise
    noise: str = _AUTO  # NAME[:key=value,…], a name in `pipeline.noise.NOISES`
    variance: str = "0.01"  # of the noise, for pixels in [0, 1]; LOW:HIGH draws one per image
    clip_input: bool = False  # clip noisy images to [0, 1], in training and in tests, as storing them does
    model: str = "autoencoder"  # NAME[:key=value,…], a name in `pipeline.models.MODELS` or `package.module:Class`
    size: str = ""  # one of the sizes of the model; "" for its default
    start: str = ""  # the model whose weights to start from: a run's ID, an MLflow model, a hand-off; "" for fresh ones
    target: str = _AUTO  # what the output is compared with: a name in `pipeline.training.objectives.TARGETS`
    crop: int = _AUTO  # side of the random crops to train on, in pixels; 0 for whole images
    crop_by: str = _AUTO  # where these are more likely: "detail" or, everywhere alike, "area"
    recipe: str = "fast"  # a name in `pipeline.models.RECIPES`, from which the next ones come where they are AUTO
    epochs: int = _AUTO
    batch_size: int = _AUTO
    optimizer: str = _AUTO
    lr: float = _AUTO
    beta2: float = _AUTO
    schedule: str = _AUTO
    loss: str = _AUTO
    precision: str = _AUTO
    bn_momentum: float = _AUTO
    color_jitter: float = _AUTO
    ema: float = _AUTO
    compile: bool = False  # whether to train with torch.compile
    device: str = "auto"  # auto, cpu, cuda or mps

    def __post_init__(self) -> None:
        fill = partial(object.__setattr__, self)  # the object is frozen
        fill("_auto", tuple(name for name in (*RECIPE, *OF_DATA) if getattr(self, name) == AUTO))
        for name in (field.name for field in fields(self) if field.name not in self._auto):
            _check_value(name, getattr(self, name))
        check_model(self.model, self.size)
        parse_variance(self.variance)
        for name, value in self._following(DataFacts()).items():
            fill(name, value)
        _check_together(self)

    @property
    def options(self) -> dict[str, Any]:
        """The options as they were given: AUTO where that was not decided."""
        return {**asdict(self), **dict.fromkeys(self._auto, AUTO)}

    def settled(self, data: DataFacts) -> Config:
        """The config for training on data with these facts.

        Raises:
            PipelineError: options do not go together.
        """
        return replace(self, **self._following(data))

    def _following(self, data: DataFacts) -> dict[str, Any]:
        """What follows from the data and the recipe where it was not given."""
        values = {name: getattr(data, name) for name in OF_DATA}
        values |= {name: getattr(self, name) for name in OF_DATA if name not in self._auto}
        recipe = recipe_of(self.model, self.recipe)
        if values["target"] in ESTIMATES:
            recipe = replace(recipe, loss="mse", precision="float32")
        values |= {name: getattr(recipe, name) for name in _RECIPE}
        # Of fewer images than a batch, an epoch is one small step, which counts as a whole one.
        per_epoch = max(data.per_epoch(values["crop"]), recipe.batch_size)
        values["epochs"] = max(1, round(recipe.images / per_epoch))
        return {name: values[name] for name in self._auto}

    @property
    def training_noise(self) -> Noise:
        """The noise to train with."""
        return make_noise(self.noise, self.variance, self.clip_input)

    @property
    def training_recipe(self) -> Recipe:
        """The recipe, with the values that this config has."""
        return replace(recipe_of(self.model, self.recipe), **{name: getattr(self, name) for name in _RECIPE})

    @property
    def dataset_name(self) -> str:
        """The dataset, without the path of its folder, which means something on this machine only."""
        return Path(self.dataset).resolve().name if Path(self.dataset).is_dir() else Path(self.dataset).name

    @property
    def model_name(self) -> str:
        """The model with its size and options, such as `autoencoder`, `resunet-l` or `unet-width8`."""
        return short_name(self.model, self.size)

    @property
    def run_name(self) -> str:
        """Name of the MLflow run and of the hand-off folder, such as `autoencoder-var0.01-seed0`."""
        noise = self.training_noise
        parts = [self.model_name, f"{'var' if self.noise == 'gaussian' else ''}{noise.label}", f"seed{self.seed}"]
        if self.dataset != Config.dataset:
            parts.insert(
                1, "".join(c if (c.isascii() and c.isalnum()) or c in "-_" else "-" for c in self.dataset_name)
            )
        if self.channels == 3:
            parts.append("rgb")
        if self.recipe != Config.recipe:
            parts.append(self.recipe)
        if self.target != DataFacts().target:
            parts.append(f"target-{self.target}")
        if self.start:
            parts.append("continued")
        return "-".join(parts)

    def to_json(self) -> str:
        """As the text of `config.json`, which `from_json` and `--config` read."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Config:
        """The config that `to_json` has written.

        The text may come from a store that others write to, and is checked as strictly as the command line: names of
        folders are made of it.

        Raises:
            PipelineError: it is not the JSON of a config, or has a value that the command line does not take.
        """
        try:
            values = parse_json(text)
        except ValueError as error:
            raise PipelineError(f"it is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise PipelineError("it is not a list of options and values")
        known = [field.name for field in fields(cls)]
        for key, value in values.items():
            if key not in known:
                raise unknown("option", key, known)
            _check_value(key, value)  # also for AUTO, which no config is stored with
        return cls(**values)


def _check_value(name: str, value: object) -> None:
    """Raise a `PipelineError` if a field of a config cannot have this value, whatever the others have."""
    default = getattr(Config, name)
    if name in NUMBERS:
        kinds = (int,) if NUMBERS[name].kind is int else (int, float)
        if value == AUTO and name in _STAY_AUTO:
            return
        if isinstance(value, bool) or not isinstance(value, kinds) or not NUMBERS[name].admit(value):
            raise PipelineError(f"{name}: {value!r} is not {NUMBERS[name]}")
    elif name in CHOICES:
        if value not in CHOICES[name]:
            raise unknown(name, str(value), CHOICES[name])
    elif not isinstance(value, type(default)):
        hint = f"; write '{value}'" if isinstance(value, int | float) and isinstance(default, str) else ""
        raise PipelineError(
            f"{name}: {value!r} is not {'true or false' if isinstance(default, bool) else 'a text'}{hint}"
        )
    elif isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
        raise PipelineError(f"{name}: {value!r} is not valid text")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_levels(white: float, black: float) -> None:
    """Make sure that what was given as white is above what was given as black.

    Raises:
        ArgumentError: it is not.
    """
    if white <= black:
        raise ArgumentError(f"--white {white:g} is not above --black {black:g}")


def _check_together(config: Config) -> None:
    """Raise a `PipelineError` for values that do not go together."""
    if config.white != AUTO:
        check_levels(float(config.white), config.black)
    if 0 < config.crop < SMALLEST_CROP:
        raise PipelineError(
            f"--crop {config.crop} is too small; allowed: 0 for whole images, or at least {SMALLEST_CROP} pixels"
        )
    _check_target(config)


def _check_target(config: Config) -> None:
    """Raise a `PipelineError` for a loss, a precision or a noise that the target does not go with."""
    if config.target in ESTIMATES and config.loss != "mse":
        raise PipelineError(f"--target {config.target}: --loss {config.loss} takes no estimate below 0; allowed: mse")
    if config.target in ESTIMATES and config.precision != "float32":
        raise PipelineError(
            f"--target {config.target}: --precision {config.precision} is too coarse for it; allowed: float32"
        )
    noise = config.training_noise
    if config.target in OF_KNOWN_LEVEL and not (noise.level or noise.is_recorded):
        raise PipelineError(
            f"--target {config.target} needs gaussian noise of one variance above 0, not clipped, or recorded noise; "
            f"--noise {noise.spec} is neither"
        )
