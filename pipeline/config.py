"""Everything that decides the result of a run: one frozen object, filled from the command line, stored with the run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.models import MODELS, Recipe, parse_model, recipe_of
from pipeline.noise import Noise, make_noise

# Every run is also scored at these variances of Gaussian noise, so that all runs share a measure ...
REFERENCE_VARIANCES = (0.001, 0.01, 0.1)
# ... and its PSNR is drawn over these, from a clean image to far beyond what anyone trains at.
CURVE_VARIANCES = (0.0, 0.0001, 0.0005, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3)

AUTO = "auto"  # on the command line: the value of the model's recipe
DATA = ("dataset", "data_dir", "channels", "seed")  # the options that decide which images are prepared
RECIPE = tuple(field.name for field in fields(Recipe))  # the options that may be AUTO
_DEFAULT = MODELS["autoencoder"].fast


@dataclass(frozen=True)
class Config:
    """The options of a training. The defaults are those of the command line."""

    dataset: str = "mnist"  # a name in `pipeline.data.sources.DATASETS`, or the path of a folder of images
    data_dir: str = "data"  # where prepared and downloaded data live
    channels: int = 1  # 1 for gray, 3 for colour (RGB)
    seed: int = 0  # of the train/validation split, the initial weights, the batch order and the training noise
    noise: str = "gaussian"  # NAME[:key=value,…], a name in `pipeline.noise.NOISES`
    variance: str = "0.01"  # of the noise, for pixels in [0, 1]; LOW:HIGH draws one per image
    clip_input: bool = False  # clip noisy images to [0, 1], in training and in tests, as storing them does
    model: str = "autoencoder"  # NAME[:key=value,…], a name in `pipeline.models.MODELS`
    size: str = ""  # one of the sizes of the model; "" for its default
    target: str = "clean"  # what the output is compared with: a name in `pipeline.training.objectives.TARGETS`
    crop: int = 0  # side of the random crops to train on, in pixels; 0 for whole images
    recipe: str = "fast"  # a name in `pipeline.models.RECIPES`, from which the next ones come where they are AUTO
    epochs: int = _DEFAULT.epochs
    batch_size: int = _DEFAULT.batch_size
    optimizer: str = _DEFAULT.optimizer
    lr: float = _DEFAULT.lr
    beta2: float = _DEFAULT.beta2
    schedule: str = _DEFAULT.schedule
    loss: str = _DEFAULT.loss
    precision: str = _DEFAULT.precision
    bn_momentum: float = _DEFAULT.bn_momentum
    compile: bool = False  # whether to train with torch.compile
    device: str = "auto"  # auto, cpu, cuda or mps

    @classmethod
    def from_options(cls, **options: Any) -> Config:
        """From the options of the command line, where those in `RECIPE` may be `AUTO`.

        Raises:
            PipelineError: options do not go together.
        """
        name, _ = parse_model(options["model"], options["size"])
        recipe = asdict(recipe_of(name, options["recipe"]))
        for key in RECIPE:
            if options[key] == AUTO:
                options[key] = recipe[key]
        config = cls(**options)
        if 0 < config.crop < 32:
            raise PipelineError(
                f"--crop {config.crop} is too small; allowed: 0 for whole images, or at least 32 pixels"
            )
        return config

    @property
    def training_noise(self) -> Noise:
        """The noise to train with."""
        return make_noise(self.noise, self.variance, self.clip_input)

    @property
    def training_recipe(self) -> Recipe:
        """The options that a recipe may set, with the values that this config has."""
        return Recipe(**{name: getattr(self, name) for name in RECIPE})

    @property
    def dataset_name(self) -> str:
        """The dataset, without the path of its folder, which means something on this machine only."""
        return Path(self.dataset).resolve().name if Path(self.dataset).is_dir() else Path(self.dataset).name

    @property
    def model_name(self) -> str:
        """The model with its size and options, such as `autoencoder`, `resunet-l` or `unet-width8`."""
        name, _, options = self.model.partition(":")
        return "-".join(part for part in (name, self.size, options.replace("=", "").replace(",", "-")) if part)

    @property
    def run_name(self) -> str:
        """Name of the MLflow run and of the hand-off folder, such as `autoencoder-var0.01-seed0`."""
        noise = self.training_noise
        parts = [self.model_name, f"{'var' if self.noise == 'gaussian' else ''}{noise.label}", f"seed{self.seed}"]
        if self.dataset != Config.dataset:
            parts.insert(
                1, "".join(c if (c.isascii() and c.isalnum()) or c in "-_" else "-" for c in self.dataset_name)
            )
        if self.channels != Config.channels:
            parts.append("rgb")
        if self.recipe != Config.recipe:
            parts.append(self.recipe)
        if self.target != Config.target:
            parts.append(f"target-{self.target}")
        return "-".join(parts)

    def to_json(self) -> str:
        """As the text of `config.json`, which `from_json` and `--config` read."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Config:
        """The config that `to_json` has written.

        Raises:
            ValueError: it is not JSON.
            TypeError: it holds something other than the fields of a config.
        """
        return cls(**json.loads(text))
