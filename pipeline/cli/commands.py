"""The command line: options to one config object to one function a stage.

Nothing slow is imported before the options have been checked.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import click

from pipeline import __version__, launcher
from pipeline.cli.exits import USAGE_ERROR, Commands, fail, run_to_exit
from pipeline.cli.options import (
    NAME,
    RUN_ID,
    SWEPT,
    TRAIN,
    CommandWithConfig,
    Number,
    parse_variants,
    with_options,
)
from pipeline.cli.training_plan import open_run, plan, resumed_run
from pipeline.config import DATA, REFERENCE_VARIANCES, Config
from pipeline.errors import PipelineError
from pipeline.launcher import stop_with_launcher
from pipeline.noise import describe_noises, make_noise, parse_variance


@click.group(
    cls=Commands,
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
@with_options(*DATA, "force")
def prepare_command(force: bool, **options: Any) -> None:
    """Verify a dataset and split it: 80 % of the training images train, 20 % validate."""
    from pipeline.stages.prepare import prepare

    config = Config(**options)
    data = prepare(config, force)
    if "MLFLOW_RUN_ID" in os.environ:  # `mlflow run . -e prepare` has made a run for this
        from pipeline.tracking import opening

        with opening.project_run(config.data_dir) as run:
            run.log_dataset(data, config.dataset_name)


@cli.command("train", cls=CommandWithConfig)
@with_options("config", *TRAIN, "resume", "checkpoint_every", "force")
def train_command(resume: str, checkpoint_every: float, force: bool, **options: Any) -> None:
    """Train on the prepared images; a new MLflow run keeps the best epoch."""
    from pipeline.stages.train import assist, train

    if launcher.rank() > 0:
        assist(options["device"])
    config, resumed = plan(resume, options)
    with open_run(config, resumed, force) as run:
        train(config, run, checkpoint_every)
    click.echo(f"train: run {run.id}")


@cli.command("evaluate")
@with_options(
    *("run_id", "noise", "variance", "clip_input", "data_dir", "device", "force"),
    run_id="The MLflow run to continue; default: the newest finished one.",
    noise="Score with this noise too; default: the training noise and the reference levels only.",
    clip_input="Clip what goes into the model to [0, 1] for this noise.",
)
def evaluate_command(
    run_id: str, noise: str, variance: str, clip_input: bool, data_dir: str, device: str, force: bool
) -> None:
    """Score the best epoch of a run on the test images."""
    from pipeline.stages.evaluate import evaluate
    from pipeline.tracking import opening, queries

    run_id = run_id or queries.newest_run()
    click.echo(f"evaluate: run {run_id}")
    with opening.continue_run(run_id, data_dir) as (run, config):
        also = make_noise(noise, variance, clip_input)
        evaluate(replace(config, data_dir=data_dir, device=device), run, [also], force)


@cli.command("export")
@with_options(
    *("run_id", "dataset", "noise", "variance", "clip_input", "data_dir", "artifacts_dir", "name"),
    *("variant", "register", "force"),
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
    force: bool,
) -> None:
    """Write the best epoch of a run as ONNX, prove it against torch, and pack the hand-off folder."""
    from pipeline.stages.export import export
    from pipeline.tracking import opening, queries

    if run_id:
        click.echo(f"export: run {run_id}")
    else:
        best = queries.best_run(dataset, make_noise(noise, variance, clip_input))
        run_id = best.run_id
        click.echo(f"export: run {run_id}, {best.reason}")
    with opening.continue_run(run_id, data_dir) as (run, config):
        folder = Path(artifacts_dir) / (name or config.run_name)
        export(replace(config, data_dir=data_dir), run, folder, parse_variants(variant), register, force)


@cli.command("run", cls=CommandWithConfig)
@with_options("config", *TRAIN, "artifacts_dir", "name", "variant", "register", "resume", "checkpoint_every", "force")
@click.option("--parent", default="", type=RUN_ID, hidden=True, help="The run of a sweep that this is a trial of.")
@click.option("--trial", default="", type=NAME, hidden=True, help="What the trial is called.")
def run_command(
    artifacts_dir: str,
    name: str,
    variant: str,
    register: str,
    resume: str,
    checkpoint_every: float,
    force: bool,
    parent: str,
    trial: str,
    **options: Any,
) -> None:
    """Prepare, train, evaluate and export, as one MLflow run. What is done already is reused."""
    from pipeline.stages.evaluate import evaluate
    from pipeline.stages.export import export
    from pipeline.stages.prepare import prepare
    from pipeline.stages.train import assist, train

    if launcher.rank() > 0:
        assist(options["device"])
    if parent:
        stop_with_launcher()  # a sweep that is killed takes its trials along
    config, resumed = plan(resume, options)
    prepare(config, force)
    with open_run(config, resumed, force, parent, trial) as run:
        train(config, run, checkpoint_every)
        evaluate(config, run, force=force)
        folder = Path(artifacts_dir) / (name or config.run_name)
        export(config, run, folder, parse_variants(variant), register, force)
    click.echo(f"run: {run.id}; compare runs with: python -m pipeline ui")


_SWEEP = ("seeds", "jobs", "artifacts_dir", "resume", "force")


@cli.command("sweep")
@with_options(*TRAIN, *_SWEEP, "search", "trials", many=SWEPT, resume="Go on with this sweep.")
def sweep_command(search: str, trials: int, **options: Any) -> None:
    """Run every combination of options, of which some are given several times or as VALUE;VALUE; or search among them.

    Trials that are done are not run again, so that the same command goes on with a sweep that was interrupted.
    """
    if search:
        _search(search, trials, **options)
    else:
        _sweep("sweep", **options)


@cli.command("blind")
@with_options(
    *(name for name in TRAIN if name != "noise"),
    *_SWEEP,
    many=SWEPT,
    defaults={"variance": "0.0005:0.1", "model": "resunet"},
    variance="LOW:HIGH: one variance is drawn from it for every image.",
    resume="Go on with this sweep.",
)
def blind_command(variance: list[str], **options: Any) -> None:
    """Train over a range of noise levels, and compare with a specialist for each level."""
    if all(parse_variance(text).is_number for text in variance):
        raise click.UsageError(f"--variance {';'.join(variance)}: a range LOW:HIGH is needed to train blind")
    levels = dict.fromkeys([*variance, *(f"{level:g}" for level in REFERENCE_VARIANCES)])
    _sweep("blind", **options, noise=["gaussian"], variance=[*levels])


@cli.command("unet")
@with_options(
    *(name for name in TRAIN if name not in ("model", "size")),
    *_SWEEP,
    many=SWEPT,
    defaults={"epochs": 10},
    resume="Go on with this sweep.",
)
def unet_command(**options: Any) -> None:
    """Train the autoencoder and the U-Nets on the same data, noise and number of epochs, and compare them."""
    _sweep("unet", **options, model=["autoencoder", "unet", "resunet"], size=[""])


def _sweep(name: str, seeds: int, jobs: int, artifacts_dir: str, resume: str, force: bool, **options: Any) -> None:
    """Run a trial for every combination of the values of `options`."""
    from pipeline.stages.sweep import sweep
    from pipeline.tracking import opening
    from pipeline.trials.grid import grid

    values = {name: options[name] if name in SWEPT else [options[name]] for name in TRAIN}
    try:
        trials = grid(values, seeds)
    except PipelineError as error:
        raise click.UsageError(str(error)) from error
    title, data_dir = f"{name}-{len(trials)}-trials", options["data_dir"]
    resumed = resumed_run(resume)
    with opening.resume_run(resumed, data_dir) if resumed else opening.start_comparison(title, data_dir) as run:
        if not sweep(trials, run, jobs, artifacts_dir, force):
            raise PipelineError(f"some trials failed; the same command with --resume {run.id} runs those again")


def _search(
    method: str, count: int, seeds: int, jobs: int, artifacts_dir: str, resume: str, force: bool, **options: Any
) -> None:
    from pipeline.stages.search import search, space_of
    from pipeline.tracking import opening

    values = {name: options[name] if name in SWEPT else [options[name]] for name in TRAIN}
    try:
        if seeds > 1:
            raise PipelineError(f"--seeds {seeds}: not with --search; try its best config, best.json, with more seeds")
        space = space_of(values)
    except PipelineError as error:
        raise click.UsageError(str(error)) from error
    title, data_dir = f"search-{method}-{count}-trials", options["data_dir"]
    resumed = resumed_run(resume)
    with opening.resume_run(resumed, data_dir) if resumed else opening.start_comparison(title, data_dir) as run:
        search(values, space, method, count, run, jobs, artifacts_dir)


@cli.command("compare")
@click.argument("runs", nargs=-1, type=RUN_ID)
@with_options("query", "output", "data_dir")
def compare_command(runs: tuple[str, ...], query: str, output: str, data_dir: str) -> None:
    """Print a leaderboard of RUNS (ids; of a sweep, its trials), or of all in the experiment, and write a page of it.

    Of two runs, it also says what changed from the first to the second.
    """
    from pipeline.stages.compare import compare

    compare(runs, query, Path(output), data_dir)


@cli.command("baselines")
@with_options(*("dataset", "data_dir", "channels", "seed", "images"))
def baselines_command(images: int, **options: Any) -> None:
    """Score the classical denoisers at the reference levels, each as an MLflow run to compare models with."""
    from pipeline.stages.baselines import score_baselines

    score_baselines(Config(**options), images)


@cli.command("promote")
@click.argument("name", type=NAME)
@with_options(
    *("version", "margin", "force", "data_dir"), force="Promote it whatever the comparison says; that is recorded."
)
def promote_command(name: str, version: int, margin: float, force: bool, data_dir: str) -> None:
    """Make a version of the registered model NAME the champion, if it beats the present one on the same images."""
    from pipeline.stages.promote import promote

    promote(name, version, margin, force, data_dir)


@cli.command("verify")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@with_options("runtime")
def verify_command(folder: Path, runtime: str) -> None:
    """Check a hand-off FOLDER: its sums, its ONNX files, and what they give in a runtime. Needs no torch."""
    from pipeline.handoff.verify import report

    table, error, code = report(folder, runtime)
    if table:
        click.echo(table)
    if error:
        fail(error, code)


@cli.command("denoise")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", "file", required=True, help="A hand-off folder, or an MLflow model: models:/NAME@champion.")
@click.option(
    "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the results."
)
@click.option("--variance", default=0.0, type=Number(float, 0, 100), help="Of Gaussian noise to add first, to try it.")
@with_options("seed", seed="Of the noise that is added.")
def denoise_command(inputs: tuple[Path, ...], file: str, output: Path, variance: float, seed: int) -> None:
    """Denoise the image files, and the folders of image files, INPUTS. Needs no torch."""
    from pipeline.denoising.command import denoise

    denoise(file, inputs, output, variance, seed)


@cli.command("demo")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@with_options("host", "port")
def demo_command(folder: Path, host: str, port: int) -> None:
    """Serve the page of a hand-off FOLDER, which denoises in the browser, on this machine."""
    from pipeline.serving.demo import serve

    serve(folder, host, port)


@cli.command("ui")
@with_options("host", "port", defaults={"port": 5000})
def ui_command(host: str, port: int) -> None:
    """Serve the MLflow UI on the store in this folder, or the nearest one above it."""
    from pipeline.serving.ui import serve

    serve(host, port)


@cli.command("doctor")
@with_options("data_dir", "artifacts_dir", "fix")
def doctor_command(data_dir: str, artifacts_dir: str, fix: bool) -> None:
    """Say what is wrong with packages, disk, store, runs and folders; exits with 1 if anything is."""
    from pipeline.stages.doctor import examine

    if not examine(data_dir, artifacts_dir, fix):
        sys.exit(1)


@cli.command("models")
@with_options("channels")
def models_command(channels: int) -> None:
    """List the networks: parameters, cost and receptive field of each."""
    from pipeline.models.facts import describe_models

    click.echo(describe_models(channels), nl=False)


@cli.command("noises")
@with_options()
def noises_command() -> None:
    """List the kinds of noise, with their parameters and where these come from."""
    click.echo(describe_noises(), nl=False)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line `arguments`, by default that of the process, and exit with a code of `exits`."""
    words = sys.argv[1:] if arguments is None else arguments
    if launcher.count() > 1 and words[:1] not in (["train"], ["run"]):
        fail("torchrun is for `train` and `run`", USAGE_ERROR)
    run_to_exit(cli, words)
