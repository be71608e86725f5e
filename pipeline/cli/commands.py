"""The command line: options to one config object to one function a stage.

Nothing slow is imported before the options have been checked.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import click

from pipeline import __version__, launcher
from pipeline.cli import sigma
from pipeline.cli.exits import MEANINGS, ExitCode, fail, run_to_exit
from pipeline.cli.handoff_commands import HANDOFF_COMMANDS
from pipeline.cli.help import Group
from pipeline.cli.look_commands import LOOK_COMMANDS
from pipeline.cli.options import HANDOFF, TRAIN, with_options
from pipeline.cli.store_commands import STORE_COMMANDS
from pipeline.cli.sweep_commands import SWEEP_COMMANDS
from pipeline.cli.training_plan import TrainingPlan
from pipeline.cli.types import NAME, RUN_ID, parse_variants
from pipeline.config import AUTO, DATA, Config
from pipeline.errors import QualityError
from pipeline.launcher import stop_with_launcher
from pipeline.noise import Noise, make_noise
from pipeline.text import say
from pipeline.tracking.console import say_result

# The headings of the list of commands.
_TRAIN, _COMPARE, _LOOK = "Train", "Compare", "Look around"


@click.group(
    cls=Group,
    # `mlflow run . -P batch_size=32` is passed on as --batch_size.
    context_settings={
        "token_normalize_func": lambda text: text.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
    },
    epilog="\b\nExit codes:\n" + "\n".join(f"  {code:3}  {text}" for code, text in MEANINGS.items()),
)
@click.version_option(__version__)
def cli() -> None:
    """Train an image-denoising autoencoder, track it in MLflow, and hand it off as a proved ONNX file.

    MLflow decides where results are tracked: MLFLOW_TRACKING_URI (by default sqlite:///mlflow.db in the current
    folder) and MLFLOW_EXPERIMENT_NAME (Default).

    COMMAND --help shows the options of a command, with examples.
    """


@cli.command(
    "run",
    section=_TRAIN,
    examples=[
        "--variance 0.01",
        "--model resunet --recipe best --seed 1",
        "--dataset my-photos --channels 3 --crop 64 --model resunet",
    ],
)
@with_options(
    *("config", *TRAIN, "checkpoint_every", "resume", "force"),
    *("experiment", "tag", "artifacts_dir", *HANDOFF, "parent", "trial", "dry_run", "quiet"),
)
def run_command(
    artifacts_dir: str,
    resume: str,
    checkpoint_every: float,
    force: bool,
    parent: str,
    trial: str,
    experiment: str,
    tag: list[tuple[str, str]],
    dry_run: bool,
    **options: Any,
) -> None:
    """Prepare, train, evaluate and export, as one MLflow run.

    Whatever is done already, with the same inputs and source, is reused.
    """
    from pipeline.cli.summary import facts_of, say_end
    from pipeline.scoring.quality import Wanted
    from pipeline.stages.evaluate import evaluate
    from pipeline.stages.export import check_variants, export
    from pipeline.stages.prepare import prepare
    from pipeline.stages.train import assist, train
    from pipeline.tracking.endings import tell

    if launcher.rank() > 0:
        assist(options["device"])
    if parent:
        stop_with_launcher()  # a sweep that is killed takes its trials along
    asked = {name: options.pop(name) for name in HANDOFF}
    plan = TrainingPlan.of(options, resume)
    if dry_run:
        from pipeline.stages.dry_run import Asked, describe

        variants = parse_variants(asked["variant"])
        artifacts, allow_worse = Path(artifacts_dir), asked["allow_worse"]
        describe(plan.config, Asked(plan.resumed, force, artifacts, asked["name"], variants, allow_worse))
        return
    data = prepare(plan.config, force)
    check_variants(parse_variants(asked["variant"]), data)
    plan = plan.settled(data)
    config, refused = plan.config, None
    with plan.open_run(force, parent, trial, experiment, tag) as run:
        asked = plan.handoff_options(run, asked)
        train(config, run, checkpoint_every)
        evaluate(config, run, force=force, verdict=asked["allow_worse"])  # else export refuses with it
        folder = Path(artifacts_dir) / (asked["name"] or config.run_name)
        variants = parse_variants(asked["variant"])
        wanted = Wanted(asked["allow_worse"], asked["min_gain"], asked["min_psnr"])
        try:
            export(config, run, folder, variants, asked["register"], wanted, force)
        except QualityError as error:  # the run is finished all the same: its model is trained and scored
            refused = error
        say_end(run.id, facts_of(run, config, None if refused else folder))
        if refused:
            tell(run, refused)
    if refused:
        raise refused


@cli.command("prepare", section=_TRAIN, examples=["--dataset fashion-mnist"])
@with_options(*DATA, "force")
def prepare_command(force: bool, **options: Any) -> None:
    """Verify a dataset and split its training images: four fifths to train, one fifth to validate."""
    from pipeline.stages.prepare import prepare

    config = Config(**options)
    data = prepare(config, force)
    if "MLFLOW_RUN_ID" in os.environ:  # `mlflow run . -e prepare` has made a run for this
        from pipeline.stages.inspect import log_dataset
        from pipeline.tracking import opening

        with opening.project_run(config.data_dir) as run:
            log_dataset(run, data, config)


@cli.command(
    "train",
    section=_TRAIN,
    examples=[
        "--variance 0.01 --epochs 5",
        "--resume RUN_ID",
    ],
)
@with_options("config", *TRAIN, "checkpoint_every", "resume", "force", "experiment", "tag", "quiet")
def train_command(
    resume: str,
    checkpoint_every: float,
    force: bool,
    experiment: str,
    tag: list[tuple[str, str]],
    **options: Any,
) -> None:
    """Train on the prepared images in a new MLflow run, which keeps the best epoch."""
    from pipeline.data.prepared import load_prepared
    from pipeline.stages.train import assist, train

    if launcher.rank() > 0:
        assist(options["device"])
    plan = TrainingPlan.of(options, resume)
    plan = plan.settled(load_prepared(plan.config))
    with plan.open_run(force, experiment=experiment, tags=tag) as run:
        train(plan.config, run, checkpoint_every)
    say_result(f"train: run {run.id}", run.id)


@cli.command(
    "evaluate",
    section=_TRAIN,
    examples=[
        "",
        "--run-id RUN_ID --noise poisson:peak=30 --clip-input",
        "--dataset my-photos",
        "--model artifacts/mnist-blind --dataset my-photos --protocol awgn",
    ],
)
@click.option("--model", "file", default="", help="Hand-off folder to score instead of a run; needs --dataset.")
@with_options(
    *("run_id", "dataset", "data_dir", "noisy", "white", "black", "noise", "protocol", "variance", "clip_input"),
    *("device", "code", "force"),
    defaults={"dataset": ""},
    run_id="ID of the MLflow run to continue; by default the newest finished one.",
    dataset="Other dataset to score the model on, by name or a folder of images; by default the run's own.",
    noise="Further noise to score with; by default only the training noise and the reference levels.",
    clip_input="Clip the input of the model to [0, 1] for this noise.",
    device="Device to compute on.",
)
def evaluate_command(
    file: str,
    run_id: str,
    dataset: str,
    data_dir: str,
    noisy: str,
    white: float | Literal["auto"],
    black: float,
    noise: str,
    protocol: str,
    variance: str,
    clip_input: bool,
    device: str,
    force: bool,
) -> None:
    """Score the best epoch of a run on its test images, or on another dataset; or a hand-off on a dataset."""
    from pipeline.stages.evaluate import evaluate
    from pipeline.stages.evaluate_elsewhere import evaluate_elsewhere
    from pipeline.stages.evaluate_file import evaluate_file
    from pipeline.tracking import opening, queries

    other = Config(dataset=dataset, data_dir=data_dir, noisy=noisy, white=white, black=black)
    if not dataset and other != Config(dataset="", data_dir=data_dir):
        raise click.UsageError("--noisy, --white and --black are those of the images of --dataset, which is not given")
    if not dataset and (file or protocol):
        raise click.UsageError(f"{'--model' if file else '--protocol'} needs images to score on: --dataset FOLDER")
    is_asked = noise != AUTO or sigma.is_given(click.get_current_context()) or clip_input
    if protocol and is_asked:
        raise click.UsageError("--protocol sets the noise; leave out --noise, --variance, --sigma and --clip-input")
    also = make_noise("gaussian" if noise == AUTO else noise, variance, clip_input)
    noises = {also.label: also} if is_asked else {}
    if file:
        if run_id or device != Config.device or force:
            raise click.UsageError(
                "--run-id, --device and --force are for runs; a file is scored in onnxruntime, on CPU"
            )
        evaluate_file(file, other, noises, protocol)
        return
    run_id = run_id or queries.newest_run()
    say(f"evaluate: run {run_id}")
    with opening.continue_run(run_id, data_dir) as (run, config):
        config = replace(config, data_dir=data_dir, device=device)
        if dataset:
            evaluate_elsewhere(config, run, other, noises, protocol, force)
        else:
            evaluate(config, run, [*noises.values()], force)


@cli.command("export", section=_TRAIN, examples=["--variance 0.01", "--run-id RUN_ID --variant uint8,int8"])
@with_options(
    *("run_id", "dataset", "data_dir", "noise", "variance", "clip_input", "artifacts_dir", "name"),
    *("variant", "register", "allow_worse", "min_gain", "min_psnr", "code", "force"),
    run_id="ID of the MLflow run to continue; by default the best finished one on --dataset with --noise.",
    dataset="Dataset whose best run to export.",
    noise="Training noise whose best run to export; auto is recorded for folders with noisy images, else gaussian.",
    variance="Training variance whose best run to export.",
    clip_input="Choose among the runs trained on clipped input.",
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
    allow_worse: bool,
    min_gain: float,
    min_psnr: float,
    force: bool,
) -> None:
    """Write the best epoch of a run as ONNX, prove it against torch, and pack the hand-off folder."""
    from pipeline.scoring.quality import Wanted
    from pipeline.stages.export import export
    from pipeline.tracking import opening, queries

    if run_id:
        say(f"export: run {run_id}")
    else:
        best = queries.best_run(dataset, _chosen_noise(dataset, noise, variance, clip_input))
        run_id = best.run_id
        say(f"export: run {run_id}, {best.reason}")
    with opening.continue_run(run_id, data_dir) as (run, config):
        folder = Path(artifacts_dir) / (name or config.run_name)
        wanted = Wanted(allow_worse, min_gain, min_psnr)
        export(replace(config, data_dir=data_dir), run, folder, parse_variants(variant), register, wanted, force)


def _chosen_noise(dataset: str, noise: str, variance: str, clip_input: bool) -> Noise:
    """The noise of the runs to choose from: where it is auto, recorded if there are such runs, else gaussian."""
    from pipeline.tracking import names, queries

    if noise == AUTO:
        tags = [run.data.tags for run in queries.trained_runs()]
        noises = [tag.get(names.NOISE, "") for tag in tags if tag.get(names.DATASET) == dataset]
        noise = "recorded" if any(text.startswith("recorded") for text in noises) else "gaussian"
    return make_noise(noise, variance, clip_input)


for command in SWEEP_COMMANDS:
    cli.add_command(command)


@cli.command("compare", section=_COMPARE, examples=["", "RUN_ID RUN_ID", "--query \"params.model = 'unet'\""])
@click.argument("runs", nargs=-1, type=RUN_ID)
@with_options("query", "format", "time", "output", "data_dir")
def compare_command(runs: tuple[str, ...], query: str, format: str, time: bool, output: str, data_dir: str) -> None:
    """Rank finished runs in a leaderboard, and write a page with figures.

    RUNS are the IDs of runs, or of a sweep, which stands for its trials; without any, all runs of the experiment are
    compared. For two runs it also says what changed from the first to the second.
    """
    from pipeline.stages.compare import compare, print_table

    if format == "page":
        compare(runs, query, Path(output), data_dir, time)
    else:
        print_table(runs, query, format, time)


@cli.command("baselines", section=_COMPARE, examples=["--images 20"])
@with_options(*DATA, "images")
def baselines_command(images: int, **options: Any) -> None:
    """Score classical denoisers at the reference levels, each as an MLflow run to compare models with."""
    from pipeline.stages.baselines import score_baselines

    score_baselines(Config(**options), images)


@cli.command("promote", section=_COMPARE, examples=["digits", "digits --version 3 --margin 0"])
@click.argument("name", type=NAME)
@with_options(
    *("version", "margin", "force", "data_dir"),
    force="Promote the version whatever the comparison says; that is recorded.",
)
def promote_command(name: str, version: int, margin: float, force: bool, data_dir: str) -> None:
    """Make a version of the registered model NAME the champion, if it beats the present one on the same images."""
    from pipeline.stages.promote import promote

    promote(name, version, margin, force, data_dir)


@cli.command("ui", section=_LOOK, examples=["", "--port 0"])
@with_options("host", "port", defaults={"port": 5000})
def ui_command(host: str, port: int) -> None:
    """Serve the MLflow UI on the store in this folder, or in the nearest one above it."""
    from pipeline.serving.ui import serve

    serve(host, port)


@cli.command("doctor", section=_LOOK, examples=["", "--fix"])
@with_options("data_dir", "artifacts_dir", "fix")
def doctor_command(data_dir: str, artifacts_dir: str, fix: bool) -> None:
    """Report problems with packages, disk, store, runs and folders; exit with 1 if there are any."""
    from pipeline.stages.doctor import examine

    if not examine(data_dir, artifacts_dir, fix):
        sys.exit(ExitCode.FAILURE)


for command in (*HANDOFF_COMMANDS, *LOOK_COMMANDS, *STORE_COMMANDS):
    cli.add_command(command)


def main(arguments: list[str] | None = None, prog_name: str = "denoise-pipeline") -> NoReturn:
    """Run the command line `arguments`, by default that of the process, and exit with a code of `exits`."""
    words = sys.argv[1:] if arguments is None else arguments
    if launcher.count() > 1 and words[:1] not in (["train"], ["run"]):
        fail("torchrun can start only the commands train and run", ExitCode.USAGE_ERROR)
    run_to_exit(cli, words, prog_name)
