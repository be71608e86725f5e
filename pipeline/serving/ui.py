"""The MLflow UI on the store that the runs are in."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse

import click

from pipeline.errors import PipelineError
from pipeline.serving.address import cannot_serve, tell_address
from pipeline.signals import Stopped
from pipeline.tracking.names import DATABASE

# The runs of the experiment that is used where none is named. Without this mode, MLflow shows what it has for language
# models, whatever kind the experiment is of.
_RUNS = "#/experiments/0/runs?workflowType=machine_learning"

_GRACE = 1.0  # seconds for requests to end


def serve(host: str, port: int) -> None:
    """Serve the MLflow UI until Ctrl-C; where the store is a server, say where its UI is.

    The store is that of MLFLOW_TRACKING_URI, else the `mlflow.db` in the current folder or the nearest one above it.

    Args:
        host: the address to listen on; who can reach it can read, change and delete all runs.
        port: to listen on.

    Raises:
        PipelineError: there is no store, or the UI cannot be served.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or find_store(Path.cwd())
    if urlparse(uri).scheme in ("http", "https"):
        click.echo(f"ui: the store is a server, with its UI at {uri}")
        return
    try:
        socket.create_server((host, port)).close()
    except (OSError, ValueError) as error:
        raise cannot_serve(host, port, error) from error
    # One process is enough for one user, and there after two thirds of the time that MLflow's four take. Without eight
    # more for the judging of language models it takes a quarter of the memory.
    command = [
        *(sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--workers", "1"),
        *("--host", host, "--port", str(port)),
    ]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}
    click.echo(f"ui: the store is {uri}")
    tell_address("ui", host, port, _RUNS, "change all runs in the store")
    with subprocess.Popen(command, env=settings, start_new_session=True) as server:
        try:
            code = server.wait()
        except Stopped:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(_GRACE)
            with suppress(ProcessLookupError):  # it waits for pages that are still open
                os.killpg(server.pid, signal.SIGKILL)
            click.echo("ui: stopped")
            return
    raise PipelineError(f"`mlflow ui` ended with exit code {code}")


def find_store(folder: Path) -> str:
    """Address of the SQLite store in `folder`, or in the nearest folder above it that has one.

    Raises:
        PipelineError: none has.
    """
    for place in (folder, *folder.parents):
        if (place / DATABASE).is_file():
            return f"sqlite:///{place / DATABASE}"
    raise PipelineError(f"no {DATABASE} in {folder} or above; run something first, or set MLFLOW_TRACKING_URI")
