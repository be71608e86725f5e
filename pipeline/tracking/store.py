"""The tracking store: connecting to it, and finding runs in it."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

# Before mlflow is imported: no pickle is ever read back.
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
# A server that does not answer is told of after seconds, not after four minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
# Where tqdm is installed, MLflow draws a bar for every artifact that is read.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from filelock import FileLock
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import _get_latest_schema_revision
from mlflow.tracking.context.registry import resolve_tags
from sqlalchemy.exc import SQLAlchemyError

from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.noise import Noise
from pipeline.tracking import names

ERRORS = (MlflowException, SQLAlchemyError, OSError)  # what a store that does not answer, or cannot, raises
DATABASE = "mlflow.db"  # the store, where none is named


def store() -> str:
    """Address of the tracking store."""
    if "MLFLOW_TRACKING_URI" not in os.environ:
        # MLflow's own default, spelled out: an old `mlruns` folder would turn it into a store that it refuses.
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{Path.cwd() / DATABASE}"
    return mlflow.get_tracking_uri()


@cache
def connect() -> mlflow.MlflowClient:
    """Settle which store is used, and create it under a lock if it is a new SQLite file.

    Raises:
        PipelineError: it cannot be used.
    """
    for name in ("alembic", "mlflow.store.db.utils"):  # they tell of every migration of a new database
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # tells of every try
    warnings.filterwarnings("ignore", module="sqlalchemy|mlflow")
    uri = store()
    try:
        if (database := database_file()) is not None:
            # Two processes that create the tables at once trip over each other.
            database.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{database}.lock"):
                _check_schema(database)
                client = mlflow.MlflowClient()
                client.search_experiments(max_results=1)
        else:
            client = mlflow.MlflowClient()
            client.search_experiments(max_results=1)
    except ERRORS as error:
        raise PipelineError(f"cannot use the tracking store {uri}: {first_line(error)}") from error
    return client


def database_file() -> Path | None:
    """The file of a store in SQLite."""
    uri = store()
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


class OldSchemaError(PipelineError):
    """A database has the schema of an earlier MLflow."""


def _check_schema(database: Path) -> None:
    """MLflow upgrades an old database of its own accord, if a table is missing; who opens it with another one can't."""
    if not database.exists():
        return
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        if "no such table" in str(error):  # empty
            return
        raise PipelineError(f"cannot use the tracking store {database}: {error}") from error
    if row is not None and row[0] != (latest := _get_latest_schema_revision()):
        raise OldSchemaError(
            f"{database} has not the schema of MLflow {mlflow.__version__} ({row[0]}, not {latest}): "
            "python -m pipeline doctor --fix upgrades it, if it is older, and keeps a copy"
        )


def ask(what: str, question: Callable[[], Any]) -> Any:
    """What the store answers to `question`.

    Raises:
        PipelineError: it does not, or there is no such thing.
    """
    try:
        return question()
    except ERRORS as error:
        raise PipelineError(f"{what}: {first_line(error)}") from error


def download(run_id: str, path: str, folder: str) -> Path:
    """A copy of an artifact of a run, below `folder`.

    Raises:
        PipelineError: the run has no such artifact.
    """
    uri = f"runs:/{run_id}/{path}"
    copy = ask(
        f"run {run_id} has no artifact {path}", lambda: mlflow.artifacts.download_artifacts(uri, dst_path=folder)
    )
    return Path(copy)


def read_config(run_id: str) -> Config:
    """The config that a training run was made with.

    Raises:
        PipelineError: there is no such run, or it was not made by this pipeline.
    """
    connect()
    try:
        return Config.from_json(mlflow.artifacts.load_text(f"runs:/{run_id}/{names.CONFIG}"))
    except (*ERRORS, ValueError, TypeError) as error:
        raise PipelineError(f"run {run_id}: no such training run: {first_line(error)}") from error


def newest_run() -> str:
    """The id of the newest finished training run of the experiment.

    Raises:
        PipelineError: there is none.
    """
    runs = trained_runs()
    if not runs:
        raise PipelineError(f"{_experiment()} has no finished training run; run: python -m pipeline train")
    return runs[0].info.run_id


@dataclass(frozen=True)
class Choice:
    """A run, and why it was chosen."""

    run_id: str
    reason: str


def best_run(dataset: str, noise: Noise) -> Choice:
    """The finished run with the highest test PSNR among those trained on `dataset` with `noise`.

    Only these can be compared: with another noise, or on other images, the same PSNR means something else.

    Raises:
        PipelineError: there is none.
    """
    metric = names.noise_metric("psnr", noise.label)
    runs = [
        run
        for run in trained_runs()
        if run.data.tags.get(names.DATASET) == dataset
        and run.data.tags.get(names.NOISE) == noise.spec
        and metric in run.data.metrics
    ]
    if not runs:
        raise PipelineError(
            f"{_experiment()} has no finished and evaluated run on dataset '{dataset}' with {noise.description}; "
            "name a run with --run-id, or choose another --dataset, --noise or --variance"
        )
    best = max(runs, key=lambda run: run.data.metrics[metric])
    psnr, count = best.data.metrics[metric], len(runs)
    among = "the only finished run" if count == 1 else f"the highest of {count} finished runs"
    return Choice(
        best.info.run_id,
        f"{best.info.run_name}: test PSNR {psnr:.2f} dB, {among} on {dataset} with {noise.description}",
    )


def trained_runs(query: str = "", create: bool = False) -> list[MlflowRun]:
    """The finished runs of the experiment that have a checkpoint, newest first; only those that match `query`.

    Raises:
        PipelineError: there is no such experiment, and it is not to be made.
    """
    parts = ["attributes.status = 'FINISHED'", f"tags.{names.WEIGHTS} != ''", *([query] if query else [])]
    return search_runs(experiment_id(create), " AND ".join(parts))


def baselines(test_digest: str, metrics: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """The classical denoisers scored on these test images: `{name (images): {metric: {label of the noise: value}}}`."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for run in find_runs(f"tags.`{names.TEST_IMAGES}` != ''"):
        tags, values = run.data.tags, run.data.metrics.items()
        if tags.get(names.TEST_IMAGES_SHA256) == test_digest:
            prefixes = {metric: names.noise_metric(metric, "") for metric in metrics}
            by_metric = {
                metric: {name.removeprefix(prefix): value for name, value in values if name.startswith(prefix)}
                for metric, prefix in prefixes.items()
            }
            found.setdefault(f"{tags[names.MODEL]} ({tags[names.TEST_IMAGES]} images)", by_metric)
    return found


def find_runs(query: str) -> list[MlflowRun]:
    """The runs of the experiment that match MLflow's filter `query`, newest first; all for "".

    Raises:
        PipelineError: there is no such experiment, or the query is wrong.
    """
    return ask(f"query {query!r}", lambda: search_runs(experiment_id(), query))


def children(run_id: str) -> list[MlflowRun]:
    """The runs of the experiment that are part of the run `run_id`, newest first."""
    return find_runs(f"tags.`{names.PARENT}` = '{run_id}'")


def search_runs(experiment: str, query: str) -> list[MlflowRun]:
    """All runs of an experiment that match `query`, newest first."""
    client = connect()
    runs: list[MlflowRun] = []
    token = None
    while True:
        page = client.search_runs([experiment], query, order_by=["attributes.start_time DESC"], page_token=token)
        runs.extend(page)
        token = page.token
        if not token:
            return runs


def experiment_id(create: bool = False) -> str:
    """The experiment that the environment names: MLFLOW_EXPERIMENT_ID, or MLFLOW_EXPERIMENT_NAME, or Default.

    Raises:
        PipelineError: there is none, and it is not to be made.
    """
    client = connect()
    if "MLFLOW_EXPERIMENT_ID" in os.environ:
        return os.environ["MLFLOW_EXPERIMENT_ID"]
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
    experiment = client.get_experiment_by_name(name)
    if experiment is None and create:
        try:
            return client.create_experiment(name)
        except MlflowException:  # another process was faster, or it cannot be made
            experiment = client.get_experiment_by_name(name)
    if experiment is None:
        raise PipelineError(f"experiment '{name}' does not exist in {mlflow.get_tracking_uri()}")
    return experiment.experiment_id


def _experiment() -> str:
    return f"experiment '{connect().get_experiment(experiment_id()).name}'"


def create_run(name: str, parent: str | None = None) -> str:
    """Make a run in the experiment of the environment, and return its id.

    Args:
        name: of the run.
        parent: id of the run that it becomes a child of.
    """
    client = connect()
    experiment = experiment_id(create=True)
    tags = resolve_tags({names.PARENT: parent} if parent else {})
    if names.EXPERIMENT_KIND not in ask(f"experiment {experiment}", lambda: client.get_experiment(experiment)).tags:
        with suppress(MlflowException):  # another process was faster, which PostgreSQL takes for an error
            client.set_experiment_tag(experiment, names.EXPERIMENT_KIND, "custom_model_development")
    return ask("a new run", lambda: client.create_run(experiment, tags=tags, run_name=name)).info.run_id


def end_run(run_id: str, status: str) -> None:
    """Set the status of a run, if the store can be asked just now."""
    with suppress(*ERRORS, PipelineError):
        connect().set_terminated(run_id, status)


def git_tags() -> dict[str, str]:
    """Commit of the running source, and whether it was edited since; nothing where it is not in a git checkout."""

    def git(*arguments: str) -> str:
        folder = Path(__file__).parents[1]
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()

    try:
        git(
            "ls-files", "--error-unmatch", "tracking/store.py"
        )  # an installed copy may lie inside someone else's checkout
        return {
            names.GIT_COMMIT: git("rev-parse", "HEAD"),
            names.GIT_DIRTY: str(bool(git("status", "--porcelain", "--", "."))).lower(),
        }
    except (OSError, subprocess.SubprocessError):
        return {}


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
