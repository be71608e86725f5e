"""The options of the command line: every one once, with its type, its help and its default."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from dataclasses import fields
from typing import Any

import click

from pipeline.cli.config_files import PRESETS, read_config_file
from pipeline.config import AUTO, RECIPE, Config
from pipeline.data.sources import DATASETS, describe_unknown, is_dataset
from pipeline.errors import PipelineError
from pipeline.launcher import in_mlflow_run, without_defaults
from pipeline.models import MODELS, RECIPES, parse_model
from pipeline.noise import NOISES, make_noise, parse_variance
from pipeline.spec import unknown
from pipeline.training.objectives import LOSSES, TARGETS
from pipeline.training.optimizers import OPTIMIZERS
from pipeline.training.schedules import SCHEDULES
from pipeline.trials.space import SEARCHES, Interval


class Number(click.ParamType):
    """A finite number in a range, with an error that says what is allowed."""

    def __init__(self, kind: type[int] | type[float], low: float, high: float, low_allowed: bool = True) -> None:
        self.kind, self.low, self.high, self.low_allowed = kind, low, high, low_allowed
        self.name = "integer" if kind is int else "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = self.kind(value)
        except ValueError:
            number = math.nan
        above = number >= self.low if self.low_allowed else number > self.low
        if not (above and number <= self.high and math.isfinite(number)):
            bound = "from" if self.low_allowed else "above"
            self.fail(f"'{value}' is not {_article(self.name)} {bound} {self.low:,g} to {self.high:,g}", param, ctx)
        return number


class AutoNumber(Number):
    """A `Number`, or "auto"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return AUTO if value == AUTO else super().convert(value, param, ctx)


class Many(click.ParamType):
    """One or several values of another type, with semicolons between, or of numbers an interval LOW:HIGH: a tuple."""

    def __init__(self, kind: click.ParamType) -> None:
        self.kind, self.name = kind, f"{kind.name};…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):  # converted already
            return value
        parts = value.split(";") if isinstance(value, str) else [value]
        texts = [part.strip() if isinstance(part, str) else part for part in parts]
        return tuple(self._convert(text, param, ctx) for text in texts)

    def _convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not (isinstance(self.kind, Number) and isinstance(value, str) and ":" in value):
            return self.kind.convert(value, param, ctx)
        low, high = (self.kind.convert(part, param, ctx) for part in value.split(":", 1))
        if AUTO in (low, high) or low >= high:
            self.fail(f"'{value}' is not LOW:HIGH, two numbers with the lower one first", param, ctx)
        return Interval(low, high)


class Spec(click.ParamType):
    """A text that `parse` accepts: it raises a `PipelineError` that says what is allowed."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name, self.parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            self.parse(value)
        except PipelineError as error:
            name = param.opts[0] if param else ""
            self.fail(str(error).removeprefix(f"{name}: "), param, ctx)  # click says the name
        return value


class Dataset(click.ParamType):
    """A name in `DATASETS`, or an existing folder."""

    name = "name or folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_dataset(value):
            self.fail(describe_unknown(value), param, ctx)
        return value


class Pattern(click.ParamType):
    """A text that must match, if it is not empty."""

    def __init__(self, name: str, pattern: str, allowed: str) -> None:
        self.name, self.pattern, self.allowed = name, pattern, allowed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value and not re.fullmatch(self.pattern, value):
            self.fail(f"'{value}' is not {self.allowed}", param, ctx)
        return value


def parse_variants(text: str) -> list[str]:
    """The names in `NAME,NAME,…`."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names:
        from pipeline.handoff.variants import VARIANTS  # imports torch

        for name in names:
            if name not in VARIANTS:
                raise unknown("--variant", name, VARIANTS)
    return list(dict.fromkeys(names))


def _parse_runtime(text: str) -> str:
    from pipeline.handoff.verify import RUNTIMES  # imports onnx

    if text not in (*RUNTIMES, "all"):
        raise unknown("--runtime", text, (*RUNTIMES, "all"))
    return text


NAME = Pattern("name", r"[A-Za-z0-9][A-Za-z0-9._-]*", "made of letters, digits, '.', '_' and '-' only")
RUN_ID = Pattern("id", r"[0-9a-f]{32}", "the id of an MLflow run: 32 digits and letters a to f")

# Every option once: type and help. The defaults are those of `Config`.
_OPTIONS: dict[str, tuple[click.ParamType | type, str]] = {
    "dataset": (Dataset(), f"{', '.join(DATASETS)}; or a folder of images."),
    "data_dir": (click.Path(file_okay=False), "Folder of prepared and downloaded data."),
    "channels": (click.Choice([1, 3]), "1: gray, 3: colour."),
    "seed": (Number(int, 0, 2**32 - 1), "Of the split, the weights, the order of the images and the training noise."),
    "noise": (Spec("spec", make_noise), f"Kind of noise, NAME[:key=value,…]: {', '.join(NOISES)}. See `noises`."),
    "variance": (
        Spec("variance", parse_variance),
        "Variance of the noise, for pixels in [0, 1]; LOW:HIGH draws one for every image.",
    ),
    "clip_input": (bool, "Clip the noisy images to [0, 1], as a stored image is."),
    "model": (Spec("spec", parse_model), f"Network, NAME[:key=value,…]: {', '.join(MODELS)}. See `models`."),
    "size": (
        Pattern("size", "[a-z]+", "a size: s, m or l"),
        "Size of the network, for those that have sizes: s, m, l.",
    ),
    "target": (click.Choice(list(TARGETS)), "What the output is compared with."),
    "crop": (
        Number(int, 0, 4096),
        "Train on random crops of this side, in pixels, flipped and turned; 0: whole images.",
    ),
    "recipe": (
        click.Choice(list(RECIPES)),
        "Where the options that are auto come from: "
        + "; ".join(f"{name}: {summary}" for name, summary in RECIPES.items())
        + ".",
    ),
    "epochs": (AutoNumber(int, 1, 100_000), "Passes over the training images."),
    "batch_size": (AutoNumber(int, 1, 1_000_000), "Images a step."),
    "optimizer": (click.Choice([AUTO, *OPTIMIZERS]), "What turns gradients into steps."),
    "lr": (AutoNumber(float, 0, 1e30, low_allowed=False), "Learning rate, at the peak of the schedule."),
    "beta2": (AutoNumber(float, 0, 0.999999), "The optimizer's decay of the squared gradients."),
    "schedule": (click.Choice([AUTO, *SCHEDULES]), "Learning rate: up and down to zero, or constant."),
    "loss": (click.Choice([AUTO, *LOSSES]), "What training minimises."),
    "precision": (click.Choice([AUTO, "float32", "bfloat16"]), "Of the arithmetic in training."),
    "bn_momentum": (
        AutoNumber(float, 0, 1, low_allowed=False),
        "Weight of the newest batch in the statistics of BatchNorm, in networks that have it.",
    ),
    "compile": (bool, "Compile the network for training: pays off in long trainings."),
    "device": (click.Choice(["auto", "cpu", "cuda", "mps"]), "Where to compute."),
    "config": (
        str,
        f"File of YAML lines such as 'epochs: 5', or one of {', '.join(PRESETS)}; other options given here win.",
    ),
    "artifacts_dir": (click.Path(file_okay=False), "Folder of the hand-off folders."),
    "name": (NAME, "Name of the hand-off folder; default: that of the run, such as autoencoder-var0.01-seed0."),
    "run_id": (RUN_ID, "The MLflow run to continue"),
    "images": (Number(int, 1, 1_000_000), "How many of the test images to score: the first ones."),
    "variant": (
        Spec("names", parse_variants),
        "Other forms of the file to hand off as well, with commas between: uint8, int8, fp16.",
    ),
    "register": (NAME, "Make the file a new version of the registered model of this name."),
    "resume": (
        Pattern("id", r"[0-9a-f]{32}|true", "the id of an MLflow run: 32 digits and letters a to f, or true"),
        "Go on with this interrupted run; true: with the one of `mlflow run --run-id`.",
    ),
    "checkpoint_every": (
        Number(float, 0, 1e9, low_allowed=False),
        "Keep the state of a training so often, in seconds.",
    ),
    "query": (str, "MLflow's filter of the runs, such as \"params.model = 'unet'\"."),
    "output": (click.Path(file_okay=False), "Folder of the page and its figures."),
    "seeds": (Number(int, 1, 1000), "How many seeds to run every combination with, from --seed on."),
    "search": (
        click.Choice(["", *SEARCHES]),
        "Choose the trials by what the ones before have given, instead of all combinations; of a number, also from an "
        "interval LOW:HIGH. The loss on the validation images decides.",
    ),
    "trials": (Number(int, 1, 10_000), "How many trials a search has, with those that are done."),
    "jobs": (Number(int, 1, 256), "How many trials to run at a time."),
    "version": (Number(int, 0, 1_000_000_000), "The version to promote; 0: the newest."),
    "margin": (Number(float, 0, 100), "How much better it must be, in dB of mean test PSNR."),
    "force": (bool, "Do it again, even if nothing that it follows from has changed."),
    "fix": (bool, "Mend what can safely be mended."),
    "runtime": (
        Spec("name", _parse_runtime),
        "Where to run the files: onnxruntime, reference, tract, opencv, openvino; all: wherever they can be.",
    ),
    "host": (str, "Address to listen on; 0.0.0.0: let other machines in."),
    "port": (Number(int, 0, 65535), "To serve on; 0: any that is free."),
}
DEFAULTS: dict[str, Any] = {
    **{field.name: AUTO if field.name in RECIPE else field.default for field in fields(Config)},
    "config": "",
    "artifacts_dir": "artifacts",
    "name": "",
    "run_id": "",
    "images": 100,
    "variant": "",
    "register": "",
    "resume": "",
    "checkpoint_every": 60.0,
    "query": "",
    "output": "comparison",
    "seeds": 1,
    "search": "",
    "trials": 20,
    "jobs": 1,
    "version": 0,
    "margin": 0.05,
    "force": False,
    "fix": False,
    "runtime": "onnxruntime",
    "host": "127.0.0.1",
    "port": 8000,
}
TRAIN = tuple(field.name for field in fields(Config))
SWEPT = tuple(
    name for name in TRAIN if name not in {"dataset", "data_dir", "channels", "seed", "device", "compile"}
)  # of which a sweep takes several values


def with_options(
    *names: str, defaults: dict[str, Any] | None = None, many: Collection[str] = (), **more_help: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Attach the options called `names`, and `--debug`, to a command; those in `many` give a list."""
    values = {**DEFAULTS, **(defaults or {})}

    def attach(command: Callable[..., None]) -> Callable[..., None]:
        command = click.option(
            "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show the traceback of a failure."
        )(command)
        for name in reversed(names):
            kind, text = _OPTIONS[name]
            if name == "config":
                command = click.option(
                    "--config", default="", help=text, is_eager=True, expose_value=False, callback=_read_config
                )(command)
                continue
            if name in many:
                command = click.option(
                    f"--{name.replace('_', '-')}",
                    type=Many(click.types.convert_type(kind)),
                    multiple=True,
                    default=[values[name]],
                    show_default=str(values[name]),
                    callback=lambda context, param, given: list(dict.fromkeys(one for part in given for one in part)),
                    help=more_help.get(name, text),
                )(command)
                continue
            # Both `--clip-input` and, as `mlflow run` passes it, `--clip-input false`.
            flag: dict[str, Any] = {"is_flag": False, "flag_value": True} if kind is bool else {}
            command = click.option(
                f"--{name.replace('_', '-')}",
                type=kind,
                default=values[name],
                show_default=values[name] != "",
                **flag,
                help=more_help.get(name, text),
            )(command)
        return command

    return attach


class CommandWithConfig(click.Command):
    """A command with the option `--config`: the file gives defaults, the command line wins."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, but under `mlflow run`, which gives every option, those with their default do not count."""
        if in_mlflow_run():
            args = without_defaults(args, {param.opts[0]: _default_text(param) for param in self.params})
        return super().parse_args(ctx, args)


def _default_text(param: click.Parameter) -> str:
    """A default as MLproject has it."""
    return str(param.default).lower() if isinstance(param.default, bool) else str(param.default)


def _read_config(context: click.Context, param: click.Parameter, value: str) -> None:
    if value:
        known = {other.name or "" for other in context.command.params} - {param.name, "debug"}
        try:
            context.default_map = {**read_config_file(value, known)}
        except PipelineError as error:
            raise click.BadParameter(str(error), context, param) from error


def _set_debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.ensure_object(dict)["debug"] = value


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
