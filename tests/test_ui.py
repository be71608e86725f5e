"""ui: the MLflow UI on the nearest store, to this machine only, until a signal."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from conftest import Cli, Trained, environment


def test_the_ui_opens_the_nearest_store_from_a_folder_below(trained: Trained, cli: Cli, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        done = cli("ui", "--port", port, MLFLOW_TRACKING_URI=trained.store)
        assert (done.code, len(done.err.splitlines())) == (1, 1)
        assert f"cannot serve on 127.0.0.1, port {port}: Address already in use" in done.err
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "ui", "--port", str(port)],
        cwd=trained.handoff,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"ui: the store is {trained.store}\n")
        for _ in range(300):
            try:
                with urlopen(f"http://127.0.0.1:{port}/") as page:
                    assert b"MLflow" in page.read()
                break
            except URLError:
                time.sleep(0.2)
        else:
            raise AssertionError("no answer")
        process.send_signal(signal.SIGTERM)
        assert "ui: stopped" in process.stdout.read()
    assert process.returncode == 0


def test_no_store_and_a_server(cli: Cli, tmp_path: Path) -> None:
    done = cli("ui")
    assert done.code == 1
    assert done.err.startswith(f"Error: no mlflow.db in {tmp_path} or above;")
    done = cli("ui", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert (done.code, done.out) == (0, "ui: the store is a server, with its UI at http://127.0.0.1:9\n")
