"""The MLflow UI on the store that the runs are in."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import click

from pipeline.demo import LOCAL
from pipeline.errors import PipelineError
from pipeline.signals import Stopped

_DATABASE = "mlflow.db"


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
    except (OSError, ValueError) as error:  # ValueError: a name that is none
        reason = getattr(error, "strerror", None) or error
        raise PipelineError(
            f"cannot serve on {host}, port {port}: {reason}; choose another --host or --port"
        ) from error
    if host != LOCAL:
        click.echo(f"ui: listens on {host}: whoever can reach this machine there can change all runs in {uri}")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    click.echo(f"ui: {uri} at http://{LOCAL if host == '0.0.0.0' else host}:{port}/#/experiments (Ctrl-C stops it)")
    with subprocess.Popen([*command, "--host", host, "--port", str(port)], start_new_session=True) as server:
        try:
            code = server.wait()
        except Stopped:
            server.terminate()
            click.echo("ui: stopped")
            return
    raise PipelineError(f"`mlflow ui` ended with exit code {code}")


def find_store(folder: Path) -> str:
    """Address of the SQLite store in `folder`, or in the nearest folder above it that has one.

    Raises:
        PipelineError: none has.
    """
    for place in (folder, *folder.parents):
        if (place / _DATABASE).is_file():
            return f"sqlite:///{place / _DATABASE}"
    raise PipelineError(f"no {_DATABASE} in {folder} or above; run something first, or set MLFLOW_TRACKING_URI")
