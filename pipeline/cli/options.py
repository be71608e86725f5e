"""The options of the command line: every one once, with its type, its help, its default and its group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import click

from pipeline.cli import sigma
from pipeline.cli.config_files import PRESETS, read_config_file
from pipeline.cli.flags import FLAGS
from pipeline.cli.help import GENERAL, GroupedOption
from pipeline.cli.types import (
    MODEL,
    NAME,
    PROTOCOL,
    RECORDABLE,
    RESUMED,
    RUN_ID,
    RUNTIME,
    SIZE,
    VARIANTS,
    AutoNumber,
    AutoSpec,
    ClassPath,
    Dataset,
    Number,
    Spec,
    Switch,
    Tags,
    Values,
)
from pipeline.config import AUTO, CHOICES, DATA, NUMBERS, Config
from pipeline.data.sources import DATASETS
from pipeline.errors import PipelineError
from pipeline.models import MODELS, RECIPES
from pipeline.noise import NOISES, make_noise, parse_asked_variance, variance_of_sigma
from pipeline.trials.space import SEARCHES


@dataclass(frozen=True)
class Option:
    """An option, which several commands may have."""

    type: click.ParamType
    help: str
    default: Any
    group: str = GENERAL  # the heading in `--help` under which it stands
    hidden: bool = False
    flag: str = ""  # as it is typed, where that is not its name
    added: Callable[[], Sequence[str]] = tuple  # names that installed packages add to those in `help`


_DATA, _NOISE, _MODEL, _TRAINING = "Data", "Noise", "Model", "Training"
_TRIALS, _TRACKING, _HANDOFF = "Trials", "Tracking", "Hand-off"
_DIRECTORY = click.Path(file_okay=False)
_TEXT = click.STRING

# By their names in Python. Those with a default in `Config` are the options that decide the result of a run.
OPTIONS: dict[str, Option] = {
    "config": Option(
        _TEXT,
        f"File of YAML lines such as 'epochs: 5', or a preset: {', '.join(PRESETS)}. Options given here win over it.",
        "",
    ),
    "dataset": Option(
        Dataset(),
        f"Dataset by name ({', '.join(DATASETS.own)}), or a folder of images.",
        Config.dataset,
        _DATA,
        added=lambda: DATASETS.added,
    ),
    "data_dir": Option(_DIRECTORY, "Folder for prepared and downloaded data.", Config.data_dir, _DATA),
    "noisy": Option(
        RECORDABLE, "Folder of the noisy images whose clean ones are the dataset, by equal names.", Config.noisy, _DATA
    ),
    "group": Option(
        RECORDABLE,
        "Group that the split keeps together: folder, or a regular expression whose match in the path names it.",
        Config.group,
        _DATA,
    ),
    "channels": Option(
        AutoNumber(*NUMBERS["channels"]),
        "Channels: 1 for gray, 3 for colour; auto for what the data have.",
        Config.channels,
        _DATA,
    ),
    "white": Option(
        AutoNumber(*NUMBERS["white"]),
        "Pixel value that becomes 1; auto: what the type, or the bits in use, can hold.",
        Config.white,
        _DATA,
    ),
    "black": Option(Number(*NUMBERS["black"]), "Pixel value that becomes 0.", Config.black, _DATA),
    "seed": Option(
        Number(*NUMBERS["seed"]),
        "Seed of the split, the initial weights, the batch order and the training noise.",
        Config.seed,
        _DATA,
    ),
    "images": Option(Number(int, 1, 1_000_000), "Number of test images to score, from the first.", 100, _DATA),
    "noise": Option(
        AutoSpec("spec", make_noise),
        f"Kind of noise, NAME[:key=value,…]: {', '.join(NOISES.own)}; auto is recorded where the data have noisy "
        "images, else gaussian. The command noises lists their parameters.",
        AUTO,
        _NOISE,
        added=lambda: NOISES.added,
    ),
    "protocol": Option(
        PROTOCOL,
        "Protocol of the literature that sets the noise; awgn is Gaussian, sigma 15, 25 and 50 of 255, not clipped.",
        "",
        _NOISE,
    ),
    "sigma": Option(
        Spec("sigma", lambda text: text and variance_of_sigma(text)),
        "Standard deviation of Gaussian noise out of 255, instead of --variance, which is then (SIGMA/255)^2; LOW:HIGH "
        "draws a variance per image.",
        "",
        _NOISE,
    ),
    "variance": Option(
        Spec("variance", parse_asked_variance),
        "Variance of the noise, for pixels in [0, 1]; LOW:HIGH draws one per image.",
        Config.variance,
        _NOISE,
    ),
    "clip_input": Option(
        Switch(), "Clip noisy images to [0, 1], as storing them as a file does.", Config.clip_input, _NOISE
    ),
    "model": Option(
        MODEL,
        f"Network, NAME[:key=value,…]: {', '.join(MODELS.own)}; or one of your own, package.module:Class. The command "
        "models lists their costs.",
        Config.model,
        _MODEL,
        added=lambda: MODELS.added,
    ),
    "code": Option(
        ClassPath(),
        "Class of a network of your own, package.module:Class, that the run was trained with: what only a store names "
        "is not imported.",
        "",
        _MODEL,
    ),
    "size": Option(SIZE, "Size of the network, for those that come in sizes: s, m, l, deep.", Config.size, _MODEL),
    "start": Option(
        RECORDABLE,
        "Model whose weights to start from: ID of a run, MLflow model such as models:/NAME@champion, hand-off folder.",
        Config.start,
        _MODEL,
        flag="--from",
    ),
    "target": Option(
        click.Choice([AUTO, *CHOICES["target"]]),
        "Target that the output is compared with in training; auto is clean where the data have clean images.",
        AUTO,
        _TRAINING,
    ),
    "crop": Option(
        AutoNumber(*NUMBERS["crop"]),
        "Side in pixels of random crops to train on, flipped and turned; 0 trains on whole images, auto on whole ones "
        "if they are small and of one size.",
        AUTO,
        _TRAINING,
    ),
    "crop_by": Option(
        click.Choice([AUTO, *CHOICES["crop_by"]]),
        "Places of the crops: more likely by detail, or all alike; auto is detail where the data have clean images.",
        AUTO,
        _TRAINING,
    ),
    "recipe": Option(
        click.Choice(list(RECIPES)),
        "Recipe that sets every option left at auto ("
        + "; ".join(f"{name}: {summary}" for name, summary in RECIPES.items())
        + ").",
        Config.recipe,
        _TRAINING,
    ),
    "epochs": Option(
        AutoNumber(*NUMBERS["epochs"]),
        "Passes over the training images; auto spends the recipe's number of images.",
        AUTO,
        _TRAINING,
    ),
    "batch_size": Option(AutoNumber(*NUMBERS["batch_size"]), "Images per step.", AUTO, _TRAINING),
    "optimizer": Option(
        click.Choice([AUTO, *CHOICES["optimizer"]]), "Optimizer that updates the weights.", AUTO, _TRAINING
    ),
    "lr": Option(AutoNumber(*NUMBERS["lr"]), "Learning rate at the peak of the schedule.", AUTO, _TRAINING),
    "beta2": Option(
        AutoNumber(*NUMBERS["beta2"]), "Decay of the optimizer's average of squared gradients.", AUTO, _TRAINING
    ),
    "schedule": Option(
        click.Choice([AUTO, *CHOICES["schedule"]]),
        "Schedule of the learning rate: linear rises to the peak and falls to zero, constant stays at the peak.",
        AUTO,
        _TRAINING,
    ),
    "loss": Option(click.Choice([AUTO, *CHOICES["loss"]]), "Loss that training minimises.", AUTO, _TRAINING),
    "precision": Option(
        click.Choice([AUTO, *CHOICES["precision"]]), "Precision of the arithmetic in training.", AUTO, _TRAINING
    ),
    "bn_momentum": Option(
        AutoNumber(*NUMBERS["bn_momentum"]),
        "Weight of the newest batch in the statistics of BatchNorm, for networks that use it.",
        AUTO,
        _TRAINING,
    ),
    "color_jitter": Option(
        AutoNumber(*NUMBERS["color_jitter"]),
        "Change of the colours of the clean images in training: gains and a saturation of up to 2^+-X; 0 for none.",
        AUTO,
        _TRAINING,
    ),
    "ema": Option(
        AutoNumber(*NUMBERS["ema"]),
        "Decay of the moving average of the weights, which is kept in place of the last ones; 0 for none.",
        AUTO,
        _TRAINING,
    ),
    "compile": Option(
        Switch(), "Compile the network for training; pays off in long trainings.", Config.compile, _TRAINING
    ),
    "device": Option(click.Choice(CHOICES["device"]), "Device to compute on.", Config.device, _TRAINING),
    "checkpoint_every": Option(
        Number(float, 0, 1e9, low_allowed=False), "Seconds between saved training states.", 60.0, _TRAINING
    ),
    "seeds": Option(Number(int, 1, 1000), "Number of seeds per combination, counted up from --seed.", 1, _TRIALS),
    "method": Option(
        click.Choice(list(SEARCHES)),
        "Method that chooses the next trial: tpe learns from earlier trials, random does not.",
        "tpe",
        _TRIALS,
    ),
    "trials": Option(Number(int, 1, 10_000), "Number of trials in all, finished ones included.", 20, _TRIALS),
    "jobs": Option(Number(int, 1, 256), "Number of trials to run at a time.", 1, _TRIALS),
    "run_id": Option(RUN_ID, "ID of the MLflow run to continue.", "", _TRACKING),
    "resume": Option(
        RESUMED,
        "ID of the interrupted run to resume; under `mlflow run --run-id ID`, true stands for that run.",
        "",
        _TRACKING,
    ),
    "force": Option(Switch(), "Run again even if no input changed.", False),
    "experiment": Option(
        _TEXT,
        "Experiment to write the run to, made if it is not there; by default that of MLFLOW_EXPERIMENT_NAME.",
        "",
        _TRACKING,
    ),
    "tag": Option(Tags(), "Tag for the run, KEY=VALUE; several separated by semicolons, or repeat it.", "", _TRACKING),
    "query": Option(_TEXT, "MLflow filter of the runs, such as \"params.model = 'unet'\".", "", _TRACKING),
    "parent": Option(RUN_ID, "ID of the run of the sweep that this is a trial of.", "", _TRACKING, hidden=True),
    "trial": Option(NAME, "Name of the trial.", "", _TRACKING, hidden=True),
    "artifacts_dir": Option(_DIRECTORY, "Folder for the hand-off folders.", "artifacts", _HANDOFF),
    "name": Option(
        NAME,
        "Name of the hand-off folder; by default the name of the run, such as autoencoder-var0.01-seed0.",
        "",
        _HANDOFF,
    ),
    "variant": Option(
        VARIANTS, "Further forms of the file to hand off, separated by commas: uint8, int8, fp16.", "", _HANDOFF
    ),
    "register": Option(NAME, "Name of the registered model to add the file to as a new version.", "", _HANDOFF),
    "allow_worse": Option(Switch(), "Hand off a model that is no better than doing nothing, too.", False, _HANDOFF),
    "min_gain": Option(
        Number(float, 0, 100), "Gain over the clipped input, in dB, below which nothing is handed off.", 0.0, _HANDOFF
    ),
    "min_psnr": Option(
        Number(float, 0, 100), "PSNR on the test images, in dB, below which nothing is handed off.", 0.0, _HANDOFF
    ),
    "version": Option(Number(int, 0, 1_000_000_000), "Version to promote; 0 for the newest.", 0),
    "margin": Option(Number(float, 0, 100), "Gain in mean test PSNR that is required, in dB.", 0.05),
    "output": Option(_DIRECTORY, "Folder for the page.", "comparison"),
    "format": Option(
        click.Choice(["page", "json", "csv"]),
        "Form of the result: page with its leaderboard, or only a row for each run as JSON or CSV on stdout.",
        "page",
    ),
    "time": Option(
        Switch(), "Measure the exported files in turn, on one thread of this machine: milliseconds per image.", False
    ),
    "fix": Option(Switch(), "Repair what can safely be repaired.", False),
    "runtime": Option(
        RUNTIME,
        "Runtime to run the files in: onnxruntime, reference, tract, opencv, openvino; all for every one installed.",
        "onnxruntime",
    ),
    "host": Option(_TEXT, "Address to listen on; 0.0.0.0 lets other machines in.", "127.0.0.1"),
    "port": Option(Number(int, 0, 65535), "Port to listen on; 0 for any that is free.", 8000),
}
# How a finished training is handed off.
HANDOFF = ("name", "variant", "register", "allow_worse", "min_gain", "min_psnr")
TRAIN = tuple(field.name for field in fields(Config))
# The options that a sweep or a search takes several values of.
SWEPT = tuple(name for name in TRAIN if name not in {*DATA, "start", "device", "compile"})


def flag_of(name: str) -> str:
    """An option as it is typed, such as `--data-dir`."""
    return OPTIONS[name].flag or f"--{name.replace('_', '-')}"


def with_options(
    *names: str,
    defaults: Mapping[str, Any] | None = None,
    several: type[Values] | None = None,
    **more_help: str,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Attach options to a command, and `--debug`.

    Args:
        names: keys of `OPTIONS`, in the order of `--help`.
        defaults: others than in `OPTIONS`.
        several: how those in `SWEPT` are given, if the command takes several values of each; they become lists.
        more_help: other help texts than in `OPTIONS`.
    """

    several_of = {*SWEPT, "sigma"} if several else set()
    if "variance" in names:
        names = tuple(word for name in names for word in (("sigma", name) if name == "variance" else (name,)))

    def attach(command: Callable[..., None]) -> Callable[..., None]:
        command = click.option(
            "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show the traceback of a failure."
        )(command)
        for name in reversed(names):
            if name in FLAGS:
                command = FLAGS[name](command)
                continue
            option = OPTIONS[name]
            extra: dict[str, Any] = {}
            default = (defaults or {}).get(name, option.default)
            if isinstance(
                option.type, Switch
            ):  # both `--clip-input` and, as `mlflow run` gives it, `--clip-input true`
                extra = {"is_flag": False, "flag_value": "true"}
            if name == "config":
                extra = {"is_eager": True, "expose_value": False, "callback": _read_config}
            if name == "code":
                extra = {"expose_value": False}  # its type notes it
            if isinstance(option.type, Tags):
                extra, default = {"multiple": True, "callback": _flatten}, [default]
            if name in several_of:
                extra |= {"multiple": True, "callback": _flatten}
                default = default if isinstance(default, list) else [default]
            if name == "sigma":
                extra |= {"is_eager": True, "expose_value": False, "callback": sigma.remember}
            if name == "variance":
                extra["callback"] = _flatten_variance if name in several_of else sigma.replace
            command = click.option(
                *dict.fromkeys([flag_of(name), f"--{name.replace('_', '-')}"]),
                name,
                type=several(option.type) if several and name in several_of else option.type,
                default=default,
                help=more_help.get(name, option.help),
                hidden=option.hidden,
                cls=GroupedOption,
                group=option.group,
                added=option.added,
                **extra,
            )(command)
        return command

    return attach


def _flatten(_context: click.Context, _param: click.Parameter, given: tuple[tuple[Any, ...], ...]) -> list[Any]:
    """The values of an option that may be given several times, each once."""
    return list(dict.fromkeys(value for values in given for value in values))


def _flatten_variance(context: click.Context, param: click.Parameter, given: tuple[tuple[Any, ...], ...]) -> list[Any]:
    return sigma.replace(context, param, _flatten(context, param, given))


def _read_config(context: click.Context, param: click.Parameter, value: str) -> None:
    if value:
        hidden = {other.name for other in context.command.params if getattr(other, "hidden", False)}
        known = {other.name or "" for other in context.command.params} - {param.name, "debug", *FLAGS, *hidden}
        words = {flag_of(name).removeprefix("--").replace("-", "_"): name for name in known}
        try:
            values = read_config_file(value, {*known, *words})
            several = {other.name for other in context.command.params if other.multiple}
            known_values = {words.get(word, word): text for word, text in values.items()}
            context.default_map = {name: [text] if name in several else text for name, text in known_values.items()}
        except PipelineError as error:
            raise click.BadParameter(str(error), context, param) from error


def _set_debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.ensure_object(dict)["debug"] = value
