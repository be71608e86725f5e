"""The command line: options to one config object to one function a stage.

Nothing slow is imported before the options have been checked.
"""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pipeline import __version__
from pipeline.config import AUTO, RECIPE, REFERENCE_VARIANCES, Config
from pipeline.datasets import DATASETS, describe_unknown, is_dataset
from pipeline.errors import PipelineError
from pipeline.models import MODELS, parse_model
from pipeline.noise import NOISES, describe_noises, make_noise, parse_variance
from pipeline.objectives import LOSSES, TARGETS
from pipeline.schedules import SCHEDULES
from pipeline.spec import unknown

if TYPE_CHECKING:
    from pipeline.tracking import Run

USAGE_ERROR, INTERRUPTED, TERMINATED = 2, 130, 143  # exit codes; PipelineError brings its own: 1, or 3 for parity


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


def _parse_variants(text: str) -> list[str]:
    """The names in `NAME,NAME,…`."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names:
        from pipeline.onnx.variants import VARIANTS  # imports torch

        for name in names:
            if name not in VARIANTS:
                raise unknown("--variant", name, VARIANTS)
    return list(dict.fromkeys(names))


def _parse_runtime(text: str) -> str:
    from pipeline.onnx.verify import RUNTIMES  # imports onnx

    if text not in (*RUNTIMES, "all"):
        raise unknown("--runtime", text, (*RUNTIMES, "all"))
    return text


_NAME = Pattern("name", r"[A-Za-z0-9][A-Za-z0-9._-]*", "made of letters, digits, '.', '_' and '-' only")
_RUN_ID = Pattern("id", r"[0-9a-f]{32}", "the id of an MLflow run: 32 digits and letters a to f")

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
    "loss": (click.Choice([AUTO, *LOSSES]), "What training minimises."),
    "epochs": (AutoNumber(int, 1, 100_000), "Passes over the training images."),
    "batch_size": (AutoNumber(int, 1, 1_000_000), "Images a step."),
    "lr": (AutoNumber(float, 0, 1e30, low_allowed=False), "Learning rate of Adam, at the peak of the schedule."),
    "beta2": (AutoNumber(float, 0, 0.999999), "Adam's decay of the squared gradients."),
    "schedule": (click.Choice(list(SCHEDULES)), "Learning rate: up and down to zero, or constant."),
    "precision": (click.Choice([AUTO, "float32", "bfloat16"]), "Of the arithmetic in training."),
    "device": (click.Choice(["auto", "cpu", "cuda", "mps"]), "Where to compute."),
    "artifacts_dir": (click.Path(file_okay=False), "Folder of the hand-off folders."),
    "name": (_NAME, "Name of the hand-off folder; default: that of the run, such as autoencoder-var0.01-seed0."),
    "run_id": (_RUN_ID, "The MLflow run to continue"),
    "images": (Number(int, 1, 1_000_000), "How many of the test images to score: the first ones."),
    "variant": (
        Spec("names", _parse_variants),
        "Other forms of the file to hand off as well, with commas between: uint8, int8, fp16.",
    ),
    "register": (_NAME, "Make the file a new version of the registered model of this name."),
    "resume": (
        Pattern("id", r"[0-9a-f]{32}|true", "the id of an MLflow run: 32 digits and letters a to f, or true"),
        "Go on with this interrupted run; true: with the one of `mlflow run --run-id`.",
    ),
    "checkpoint_every": (
        Number(float, 0, 1e9, low_allowed=False),
        "Keep the state of a training so often, in seconds.",
    ),
    "version": (Number(int, 0, 1_000_000_000), "The version to promote; 0: the newest."),
    "margin": (Number(float, 0, 100), "How much better it must be, in dB of mean test PSNR."),
    "force": (bool, "Promote it whatever the comparison says; that is recorded."),
    "runtime": (
        Spec("name", _parse_runtime),
        "Where to run the files: onnxruntime, reference, tract, opencv, openvino; all: wherever they can be.",
    ),
    "port": (Number(int, 0, 65535), "To serve on; 0: any that is free."),
}
_DEFAULTS: dict[str, Any] = {
    **{field.name: AUTO if field.name in RECIPE else field.default for field in fields(Config)},
    "artifacts_dir": "artifacts",
    "name": "",
    "run_id": "",
    "images": 100,
    "variant": "",
    "register": "",
    "resume": "",
    "checkpoint_every": 60.0,
    "version": 0,
    "margin": 0.05,
    "force": False,
    "runtime": "onnxruntime",
    "port": 8000,
}
_PREPARE = ("dataset", "data_dir", "channels", "seed")
_TRAIN = tuple(field.name for field in fields(Config))


def _options(
    *names: str, defaults: dict[str, Any] | None = None, **more_help: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Attach the options called `names`, and `--debug`, to a command."""
    values = {**_DEFAULTS, **(defaults or {})}

    def attach(command: Callable[..., None]) -> Callable[..., None]:
        command = click.option(
            "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show the traceback of a failure."
        )(command)
        for name in reversed(names):
            kind, text = _OPTIONS[name]
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


def _config(options: dict[str, Any]) -> Config:
    try:
        return Config.from_options(**options)
    except PipelineError as error:
        raise click.UsageError(str(error)) from error


def _set_debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.ensure_object(dict)["debug"] = value


class _Commands(click.Group):
    """Ends a stage that fails with one line and the right exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        ctx.obj = {"debug": False}
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.obj["debug"]:
                traceback.print_exc()
            known = isinstance(error, PipelineError)
            message = " ".join((str(error) if known else f"{type(error).__name__}: {error}").split())
            hint = "" if known or ctx.obj["debug"] else " (--debug shows the traceback)"
            _fail(message + hint, error.exit_code if isinstance(error, PipelineError) else 1)


@click.group(
    cls=_Commands,
    # `mlflow run . -P batch_size=32` is passed on as --batch_size where MLproject does not know the parameter.
    context_settings={
        "token_normalize_func": lambda text: text.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
    },
)
@click.version_option(__version__)
def cli() -> None:
    """Train an image-denoising autoencoder, track it in MLflow, and hand it off as a proved ONNX file.

    The experiment and the store are MLflow's own choice: MLFLOW_EXPERIMENT_NAME (Default) and
    MLFLOW_TRACKING_URI (sqlite:///mlflow.db in the current folder).
    """


@cli.command("prepare")
@_options(*_PREPARE)
def prepare_command(**options: Any) -> None:
    """Verify a dataset and split it: 80 % of the training images train, 20 % validate."""
    from pipeline.stages.prepare import prepare

    config = Config(**options)
    data = prepare(config)
    if "MLFLOW_RUN_ID" in os.environ:  # `mlflow run . -e prepare` has made a run for this
        from pipeline import tracking

        with tracking.project_run() as run:
            run.log_dataset(data, config.dataset_name)


@contextmanager
def _resumable(resume: str, options: dict[str, Any]) -> Iterator[tuple[Run, Config]]:
    """`_new_or_resumed`, and a word on how to go on if it is stopped."""
    with _new_or_resumed(resume, options) as (run, config):
        try:
            yield run, config
        except (KeyboardInterrupt, SystemExit):
            click.echo(f"stopped; go on with: --resume {run.id}", err=True)
            raise


@contextmanager
def _new_or_resumed(resume: str, options: dict[str, Any]) -> Iterator[tuple[Run, Config]]:
    """The run to train in: a new one, or the one to resume, whose config the options must not contradict."""
    from pipeline import tracking

    if not resume:
        config = _config(options)
        with tracking.start_run(config) as run:
            yield run, config
        return
    run_id = os.environ.get("MLFLOW_RUN_ID", "") if resume == "true" else resume
    if not run_id:
        raise click.UsageError("--resume true: that is for `mlflow run . --run-id RUN_ID -P resume=true`")
    tracking.connect()
    config = tracking.read_config(run_id)
    here = {"data_dir", "device"}  # may be others than before
    for name in set(_TRAIN) - here:
        # `mlflow run` gives every option, so that one that has its default says nothing.
        if options[name] not in (_DEFAULTS[name], getattr(config, name)):
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(
                f"{option} {options[name]}: run {run_id} was started with {option} {getattr(config, name)}"
            )
    config = replace(config, **{name: options[name] for name in here if options[name] != _DEFAULTS[name]})
    with tracking.resume_run(run_id) as run:
        yield run, config


@cli.command("train")
@_options(*_TRAIN, "resume", "checkpoint_every")
def train_command(resume: str, checkpoint_every: float, **options: Any) -> None:
    """Train on the prepared images; a new MLflow run keeps the best epoch."""
    from pipeline.stages.train import train

    with _resumable(resume, options) as (run, config):
        train(config, run, checkpoint_every)
    click.echo(f"train: run {run.id}")


@cli.command("evaluate")
@_options(
    *("run_id", "noise", "variance", "clip_input", "data_dir", "device"),
    run_id="The MLflow run to continue; default: the newest finished one.",
    noise="Score with this noise too; default: the training noise and the reference levels only.",
    clip_input="Clip what goes into the model to [0, 1] for this noise.",
)
def evaluate_command(run_id: str, noise: str, variance: str, clip_input: bool, data_dir: str, device: str) -> None:
    """Score the best epoch of a run on the test images."""
    from pipeline import tracking
    from pipeline.stages.evaluate import evaluate

    run_id = run_id or tracking.newest_run()
    click.echo(f"evaluate: run {run_id}")
    with tracking.continue_run(run_id) as (run, config):
        also = make_noise(noise, variance, clip_input)
        evaluate(replace(config, data_dir=data_dir, device=device), run, [also])


@cli.command("export")
@_options(
    *("run_id", "dataset", "noise", "variance", "clip_input", "data_dir", "artifacts_dir", "name"),
    *("variant", "register"),
    run_id="The MLflow run to continue; default: the best finished one on --dataset with --noise.",
    dataset="Choose among the runs trained on this dataset.",
    noise="Choose among the runs trained with this noise.",
    variance="Choose among the runs trained at this variance of the noise.",
    clip_input="Choose among the runs trained so.",
)
def export_command(
    run_id: str,
    dataset: str,
    noise: str,
    variance: str,
    clip_input: bool,
    data_dir: str,
    artifacts_dir: str,
    name: str,
    variant: str,
    register: str,
) -> None:
    """Write the best epoch of a run as ONNX, prove it against torch, and pack the hand-off folder."""
    from pipeline import tracking
    from pipeline.stages.export import export

    if run_id:
        click.echo(f"export: run {run_id}")
    else:
        best = tracking.best_run(dataset, make_noise(noise, variance, clip_input))
        run_id = best.run_id
        click.echo(f"export: run {run_id}, {best.reason}")
    with tracking.continue_run(run_id) as (run, config):
        folder = Path(artifacts_dir) / (name or config.run_name)
        export(replace(config, data_dir=data_dir), run, folder, _parse_variants(variant), register)


@cli.command("run")
@_options(*_TRAIN, "artifacts_dir", "name", "variant", "register", "resume", "checkpoint_every")
def run_command(
    artifacts_dir: str, name: str, variant: str, register: str, resume: str, checkpoint_every: float, **options: Any
) -> None:
    """Prepare, train, evaluate and export, as one MLflow run."""
    from pipeline import tracking
    from pipeline.stages.evaluate import evaluate
    from pipeline.stages.export import export
    from pipeline.stages.prepare import prepare
    from pipeline.stages.train import train

    with _resumable(resume, options) as (run, config):
        prepare(config)
        train(config, run, checkpoint_every)
        evaluate(config, run)
        export(config, run, Path(artifacts_dir) / (name or config.run_name), _parse_variants(variant), register)
    click.echo(f"run: {run.id}; compare runs with: mlflow ui --backend-store-uri {tracking.store()}")


_BLIND = {"variance": "0.0005:0.1", "model": "resunet"}


@cli.command("blind")
@_options(*_TRAIN, defaults=_BLIND, variance="LOW:HIGH: one variance is drawn from it for every image.")
def blind_command(**options: Any) -> None:
    """Train over a range of noise levels, and compare with a specialist for each level."""
    from pipeline import tracking
    from pipeline.stages.compare import compare

    if parse_variance(options["variance"]).is_number:
        raise click.UsageError(f"--variance {options['variance']}: a range LOW:HIGH is needed to train blind")
    blind = _config(options)
    specialists = {
        f"trained at {variance:g}": replace(blind, noise="gaussian", variance=f"{variance:g}")
        for variance in REFERENCE_VARIANCES
    }
    with tracking.start_comparison(f"blind-{blind.run_name}") as run:
        compare({f"trained at {blind.variance}": blind, **specialists}, run)


@cli.command("unet")
@_options(*(name for name in _TRAIN if name not in ("model", "size")), defaults={"epochs": 10})
def unet_command(**options: Any) -> None:
    """Train the autoencoder and the U-Nets on the same data, noise and number of epochs, and compare them."""
    from pipeline import tracking
    from pipeline.stages.compare import compare

    models = ("autoencoder", "unet", "resunet")
    configs = {model: _config({**options, "model": model, "size": ""}) for model in models}
    with tracking.start_comparison(f"unet-{configs['unet'].run_name}") as run:
        compare(configs, run)


@cli.command("baselines")
@_options(*("dataset", "data_dir", "channels", "seed", "images"))
def baselines_command(images: int, **options: Any) -> None:
    """Score the classical denoisers at the reference levels, each as an MLflow run to compare models with."""
    from pipeline.stages.baselines import score_baselines

    score_baselines(Config(**options), images)


@cli.command("promote")
@click.argument("name", type=_NAME)
@_options("version", "margin", "force", "data_dir")
def promote_command(name: str, version: int, margin: float, force: bool, data_dir: str) -> None:
    """Make a version of the registered model NAME the champion, if it beats the present one on the same images."""
    from pipeline.stages.promote import promote

    promote(name, version, margin, force, data_dir)


@cli.command("verify")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_options("runtime")
def verify_command(folder: Path, runtime: str) -> None:
    """Check a hand-off FOLDER: its sums, its ONNX files, and what they give in a runtime. Needs no torch."""
    from pipeline.onnx.verify import report

    table, error, code = report(folder, runtime)
    if table:
        click.echo(table)
    if error:
        _fail(error, code)


@cli.command("denoise")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", "file", required=True, help="A hand-off folder, or an MLflow model: models:/NAME@champion.")
@click.option(
    "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the results."
)
@click.option("--variance", default=0.0, type=Number(float, 0, 100), help="Of Gaussian noise to add first, to try it.")
@_options("seed", seed="Of the noise that is added.")
def denoise_command(inputs: tuple[Path, ...], file: str, output: Path, variance: float, seed: int) -> None:
    """Denoise the image files, and the folders of image files, INPUTS. Needs no torch."""
    from pipeline.denoise import denoise

    denoise(file, inputs, output, variance, seed)


@cli.command("demo")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_options("port")
def demo_command(folder: Path, port: int) -> None:
    """Serve the page of a hand-off FOLDER, which denoises in the browser, on this machine."""
    from pipeline.demo import serve

    serve(folder, port)


@cli.command("models")
@_options("channels")
def models_command(channels: int) -> None:
    """List the networks: parameters, cost and receptive field of each."""
    from pipeline.models.facts import describe_models

    click.echo(describe_models(channels), nl=False)


@cli.command("noises")
@_options()
def noises_command() -> None:
    """List the kinds of noise, with their parameters and where these come from."""
    click.echo(describe_noises(), nl=False)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0, 1 a failure, 2 a usage error, 3 a failed parity gate, 130 or 143 stopped."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = cli.main(arguments, prog_name="denoise-pipeline", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(USAGE_ERROR)
    except click.NoSuchOption as error:
        known = [option for parameter in error.ctx.command.params for option in parameter.opts] if error.ctx else []
        _fail(f"{error.message} Allowed: {', '.join(sorted(known))}", USAGE_ERROR)
    except click.ClickException as error:
        _fail(" ".join(error.format_message().split()), error.exit_code)
    except click.Abort:
        _fail("interrupted", INTERRUPTED)
    sys.exit(code)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(TERMINATED)  # unwinds, so that the run is marked and nothing half-written stays


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
