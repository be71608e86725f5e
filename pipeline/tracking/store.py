"""The tracking store: connecting to it, asking it, and making runs in it. Finding runs is in `queries`."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from pipeline.config import Config
from pipeline.errors import ArgumentError, PipelineError
from pipeline.text import without_secrets
from pipeline.tracking import names, views
from pipeline.tracking.database import check, make

ERRORS = (MlflowException, OSError)  # what a store raises that does not answer, or cannot
NO_SUCH_THING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # error codes, by kind of store
LIVING = ("RUNNING", "SCHEDULED")  # statuses of a run that is not over
_SETTINGS = {  # unless the user has set them; MLflow reads them whenever it needs them
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",  # no pickle is ever read back
    # A server that does not answer is reported after seconds, not after four minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # Where tqdm is installed, MLflow draws a bar for every artifact that is read.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def uri() -> str:
    """The address of the tracking store."""
    # MLflow's own default, spelled out: an old `mlruns` folder would turn it into a store that it refuses.
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / names.DATABASE}"


def database_file() -> Path | None:
    """The file of a store in SQLite."""
    return Path(uri().removeprefix("sqlite:///").partition("?")[0]) if uri().startswith("sqlite:///") else None


def is_there() -> bool:
    """Whether there is a store; one on a server is, or says itself that it is not."""
    database = database_file()
    return database is None or database.exists()


@cache
def connect(create: bool = False) -> mlflow.MlflowClient:
    """Settle which store is used, for this process and those that it starts.

    Args:
        create: make a new SQLite file if it is not there, as whoever writes a new run does.

    Raises:
        ArgumentError: there is no such file, and it is not to be made.
        PipelineError: the store cannot be used.
    """
    if not (create or is_there()):
        raise ArgumentError(
            f"there is no tracking store {database_file()}, and so no run and no registered model; go to the folder "
            "with the store, or name it by MLFLOW_TRACKING_URI"
        )
    os.environ["MLFLOW_TRACKING_URI"] = uri()
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if without_secrets(uri()) != uri():  # MLflow prints links to its pages, with the password
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    for name in ("alembic", "mlflow.store.db.utils"):  # log every migration of a new database
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # logs every try
    warnings.filterwarnings("ignore", module="sqlalchemy|mlflow")
    try:
        if (database := database_file()) is None:
            return _client()
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{database}.lock"):  # two processes that make the tables at once trip over each other
            if not database.exists() or database.stat().st_size == 0:
                make(database)
            check(database)
            return _client()
    except PipelineError:
        raise
    except Exception as error:  # those of the database's driver have no base in common with MLflow's
        raise PipelineError(f"cannot use the tracking store {uri()}: {first_line(error)}") from error


def _client() -> mlflow.MlflowClient:
    client = mlflow.MlflowClient()
    client.search_experiments(max_results=1)
    return client


def client_of(server: str) -> mlflow.MlflowClient:
    """The client of another store than the one in use.

    Raises:
        ArgumentError: it is the one in use.
        PipelineError: it does not answer.
    """
    connect()
    if server.rstrip("/") == uri().rstrip("/"):
        raise ArgumentError(f"{server} is the store in use; MLFLOW_TRACKING_URI names the one to copy from")
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # two lines for each run that ends there
    try:
        client = mlflow.MlflowClient(server, registry_uri=server)
        client.search_experiments(max_results=1)
    except Exception as error:  # those of a database's driver have no base in common with MLflow's
        raise PipelineError(f"cannot use the server {server}: {first_line(error)}") from error
    return client


def ask(what: str, question: Callable[[], Any]) -> Any:
    """What the store answers to `question`.

    Raises:
        PipelineError: it does not answer.
        ArgumentError: there is no such thing.
    """
    try:
        return question()
    except ERRORS as error:
        raise failure(what, error) from error


def failure(what: str, error: Exception) -> PipelineError:
    """The error for something that a store does not give: an `ArgumentError` if it has no such thing."""
    is_known = not isinstance(error, MlflowException) or error.error_code not in NO_SUCH_THING
    return (PipelineError if is_known else ArgumentError)(f"{what}: {first_line(error)}")


def download(run_id: str, path: str, folder: str) -> Path:
    """A copy of an artifact of a run, below `folder`.

    Raises:
        PipelineError: the run has no such artifact.
    """
    address = f"runs:/{run_id}/{path}"
    copy = ask(
        f"run {run_id} has no artifact {path}", lambda: mlflow.artifacts.download_artifacts(address, dst_path=folder)
    )
    return Path(copy)


def place_of(run_id: str, name: str) -> str:
    """Where a person finds an artifact of a run: a path, or on a server the address of its page."""
    try:
        info = connect().get_run(run_id).info
    except (*ERRORS, PipelineError):  # it has the run's records later
        return f"{name}, an artifact of the run"
    if uri().startswith("http"):
        return f"{uri().rstrip('/')}/#/experiments/{info.experiment_id}/runs/{run_id}/artifacts/{name}"
    if not is_local_uri(info.artifact_uri):
        return f"{info.artifact_uri}/{name}"
    path = Path(local_file_uri_to_path(info.artifact_uri)) / name
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def read_config(run_id: str) -> Config:
    """The config that a training run was made with.

    Raises:
        ArgumentError: there is no such run.
        PipelineError: it was not made by this pipeline, or by options that the command line would refuse.
    """
    connect()
    try:
        return Config.from_json(mlflow.artifacts.load_text(f"runs:/{run_id}/{names.CONFIG}"))
    except (*ERRORS, UnicodeDecodeError) as error:
        raise failure(f"run {run_id}: no such training run", error) from error
    except PipelineError as error:
        raise PipelineError(f"run {run_id}: its {names.CONFIG} cannot be used: {error}") from error


def names_experiment() -> bool:
    """Whether the environment names the experiment."""
    return not {"MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"}.isdisjoint(os.environ)


def experiment_id(create: bool = False) -> str:
    """The experiment that the environment names: MLFLOW_EXPERIMENT_ID, or MLFLOW_EXPERIMENT_NAME, or Default.

    Args:
        create: make it if it does not exist.

    Raises:
        PipelineError: there is none, and it is not to be made.
    """
    client = connect(create)
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


def prepare_views(experiment: str) -> None:
    """Have the UI show trainings of the experiment, and not what is meant for language models."""
    client = connect()
    tags = ask(f"experiment {experiment}", lambda: client.get_experiment(experiment)).tags
    for key, value in {names.EXPERIMENT_KIND: "custom_model_development", views.TAG: views.trainings()}.items():
        if tags.get(key) != value and not (key == names.EXPERIMENT_KIND and key in tags):
            with suppress(MlflowException):  # another process was faster, which PostgreSQL takes for an error
                client.set_experiment_tag(experiment, key, value)


def create_run(name: str, tags: dict[str, str]) -> str:
    """Make a run in the experiment of the environment, and return its id.

    Args:
        name: of the run.
        tags: that it has from the first moment on.
    """
    client = connect()
    experiment = experiment_id(create=True)
    prepare_views(experiment)
    return ask("a new run", lambda: client.create_run(experiment, tags=resolve_tags(tags), run_name=name)).info.run_id


def first_line(error: Exception) -> str:
    """The first line of what an error says, or else its kind."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
