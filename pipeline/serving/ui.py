"""The MLflow UI for the store that holds the runs."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlparse

from pipeline.errors import PipelineError
from pipeline.serving.address import cannot_serve, print_address
from pipeline.signals import Stopped
from pipeline.text import say
from pipeline.tracking.names import DATABASE, TRAININGS_VIEW
from pipeline.tracking.views import TAG

# Without this workflow type, MLflow shows its views for language models, whatever the kind of the experiment.
_RUNS = "#/experiments/{}/runs?workflowType=machine_learning"

_GRACE = 1.0  # seconds that open requests get to finish


def serve(host: str, port: int) -> None:
    """Serve the MLflow UI until Ctrl-C, or print where it is if the store is a server.

    The store is the one that MLFLOW_TRACKING_URI names, else the `mlflow.db` in the current folder or the nearest
    folder above it.

    Args:
        host: the address to listen on; anyone who can reach it can read, change and delete all runs.
        port: the port to listen on.

    Raises:
        PipelineError: there is no store, MLflow cannot use it as it is, or the UI cannot be served.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or find_store(Path.cwd())
    if urlparse(uri).scheme in ("http", "https"):
        say(f"ui: the store is a server, with its UI at {uri}")
        return
    os.environ["MLFLOW_TRACKING_URI"] = uri
    from pipeline.tracking import store  # imports MLflow

    store.connect()
    try:
        socket.create_server((host, port)).close()
    except (OSError, ValueError) as error:
        raise cannot_serve(host, port, error) from error
    # One worker is enough for one user, and starts in two thirds of the time of MLflow's default of four. Without the
    # eight processes that evaluate language models, memory falls to a quarter.
    command = [
        *(sys.executable, "-m", "mlflow", "ui", "--workers", "1"),
        *("--host", host, "--port", str(port)),
    ]
    # Whoever can list processes can read their arguments, and the address may hold a password.
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ, "MLFLOW_BACKEND_STORE_URI": uri}
    say(f"ui: the store is {uri}")
    print_address("ui", host, port, runs_page(uri), "read, change and delete all runs in the store")
    with subprocess.Popen(command, env=settings, start_new_session=True) as server:
        try:
            code = server.wait()
        except Stopped:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(_GRACE)
            with suppress(ProcessLookupError):  # it would wait for pages that are still open
                os.killpg(server.pid, signal.SIGKILL)
            say("ui: stopped")
            return
    raise PipelineError(f"`mlflow ui` ended with exit code {code}")


def runs_page(uri: str) -> str:
    """The page to open: the trainings of the experiment that was written to last, or all of its runs in an older store.

    Asked of the database itself, because importing MLflow takes longer than all the rest. Of a store that is no SQLite
    file, it is the page of the default experiment.
    """
    if not uri.startswith("sqlite:///"):
        return _RUNS.format(0)
    path = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    newest = "SELECT experiment_id FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time DESC LIMIT 1"
    views = "SELECT 1 FROM experiment_tags WHERE experiment_id = ? AND key = ?"
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            (experiment,) = database.execute(newest).fetchone() or (0,)
            has_view = database.execute(views, (experiment, TAG)).fetchone()
    except sqlite3.Error:  # MLflow says what is wrong with it
        return _RUNS.format(0)
    return _RUNS.format(experiment) + (f"&viewStateShareKey={TRAININGS_VIEW}" if has_view else "")


def find_store(folder: Path) -> str:
    """The URI of the SQLite store in `folder`, or in the nearest folder above it that has one.

    Raises:
        PipelineError: none of them has one.
    """
    for place in (folder, *folder.parents):
        if (place / DATABASE).is_file():
            return f"sqlite:///{place / DATABASE}"
    raise PipelineError(
        f"no {DATABASE} in {folder} or any folder above it; start a run first, or set MLFLOW_TRACKING_URI"
    )
