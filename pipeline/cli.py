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
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from pipeline import __version__
from pipeline.config import Config
from pipeline.datasets import DATASETS, describe_unknown, is_dataset
from pipeline.errors import PipelineError
from pipeline.models import MODELS
from pipeline.noise import NOISES

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


_NAME = Pattern("name", r"[A-Za-z0-9][A-Za-z0-9._-]*", "made of letters, digits, '.', '_' and '-' only")
_RUN_ID = Pattern("id", r"[0-9a-f]{32}", "the id of an MLflow run: 32 digits and letters a to f")

# Every option once: type and help. The defaults are those of `Config`.
_OPTIONS: dict[str, tuple[click.ParamType | type, str]] = {
    "dataset": (Dataset(), f"{', '.join(DATASETS)}; or a folder of images of one size."),
    "data_dir": (click.Path(file_okay=False), "Folder of prepared and downloaded data."),
    "seed": (Number(int, 0, 2**32 - 1), "Of the split, the weights, the order of the images and the training noise."),
    "noise": (click.Choice(list(NOISES)), "Kind of noise."),
    "variance": (Number(float, 0, 100, low_allowed=False), "Variance of the noise, for pixels in [0, 1]."),
    "model": (click.Choice(list(MODELS)), "Network."),
    "target": (click.Choice(["clean", "noisy"]), "What the output is compared with; 'noisy' shows the page's mistake."),
    "epochs": (Number(int, 1, 100_000), "Passes over the training images."),
    "batch_size": (Number(int, 1, 1_000_000), "Images a step."),
    "lr": (Number(float, 0, 1e30, low_allowed=False), "Learning rate of Adam, at the peak of the schedule."),
    "schedule": (click.Choice(["linear", "constant"]), "Learning rate: up and down to zero, or constant."),
    "device": (click.Choice(["auto", "cpu", "cuda", "mps"]), "Where to compute."),
    "artifacts_dir": (click.Path(file_okay=False), "Folder of the hand-off folders."),
    "name": (_NAME, "Name of the hand-off folder; default: that of the run, such as autoencoder-var0.01-seed0."),
    "run_id": (_RUN_ID, "The MLflow run to continue"),
}
_DEFAULTS: dict[str, Any] = {
    **{field.name: field.default for field in fields(Config)},
    "artifacts_dir": "artifacts",
    "name": "",
    "run_id": "",
}
_PREPARE = ("dataset", "data_dir", "seed")
_TRAIN = tuple(field.name for field in fields(Config))


def _options(*names: str, **more_help: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Attach the options called `names`, and `--debug`, to a command."""

    def attach(command: Callable[..., None]) -> Callable[..., None]:
        command = click.option(
            "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show the traceback of a failure."
        )(command)
        for name in reversed(names):
            kind, text = _OPTIONS[name]
            command = click.option(
                f"--{name.replace('_', '-')}",
                type=kind,
                default=_DEFAULTS[name],
                show_default=_DEFAULTS[name] != "",
                help=more_help.get(name, text),
            )(command)
        return command

    return attach


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


@cli.command("train")
@_options(*_TRAIN)
def train_command(**options: Any) -> None:
    """Train on the prepared images; a new MLflow run keeps the best epoch."""
    from pipeline import tracking
    from pipeline.stages.train import train

    config = Config(**options)
    with tracking.start_run(config) as run:
        train(config, run)
    click.echo(f"train: run {run.id}")


@cli.command("evaluate")
@_options("run_id", "data_dir", "device", run_id="The MLflow run to continue; default: the newest finished one.")
def evaluate_command(run_id: str, data_dir: str, device: str) -> None:
    """Score the best epoch of a run on the test images."""
    from pipeline import tracking
    from pipeline.stages.evaluate import evaluate

    run_id = run_id or tracking.newest_run()
    click.echo(f"evaluate: run {run_id}")
    with tracking.continue_run(run_id) as (run, config):
        evaluate(replace(config, data_dir=data_dir, device=device), run)


@cli.command("export")
@_options(
    *("run_id", "dataset", "variance", "data_dir", "artifacts_dir", "name"),
    run_id="The MLflow run to continue; default: the best finished one on --dataset at --variance.",
    dataset="Choose among the runs trained on this dataset.",
    variance="Choose among the runs trained at this variance of the noise.",
)
def export_command(run_id: str, dataset: str, variance: float, data_dir: str, artifacts_dir: str, name: str) -> None:
    """Write the best epoch of a run as ONNX, prove it against torch, and pack the hand-off folder."""
    from pipeline import tracking
    from pipeline.stages.export import export

    if run_id:
        click.echo(f"export: run {run_id}")
    else:
        best = tracking.best_run(dataset, variance)
        run_id = best.run_id
        click.echo(f"export: run {run_id}, {best.reason}")
    with tracking.continue_run(run_id) as (run, config):
        export(replace(config, data_dir=data_dir), run, Path(artifacts_dir) / (name or config.run_name))


@cli.command("run")
@_options(*_TRAIN, "artifacts_dir", "name")
def run_command(artifacts_dir: str, name: str, **options: Any) -> None:
    """Prepare, train, evaluate and export, as one MLflow run."""
    from pipeline import tracking
    from pipeline.stages.evaluate import evaluate
    from pipeline.stages.export import export
    from pipeline.stages.prepare import prepare
    from pipeline.stages.train import train

    config = Config(**options)
    with tracking.start_run(config) as run:
        prepare(config)
        train(config, run)
        evaluate(config, run)
        export(config, run, Path(artifacts_dir) / (name or config.run_name))
    click.echo(f"run: {run.id}; compare runs with: mlflow ui --backend-store-uri {tracking.store()}")


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
