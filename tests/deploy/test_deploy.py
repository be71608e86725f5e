"""docs/team-server.md: its commands make a server that a training writes to, and a copy of it that can be kept."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
import yaml
from conftest import PROJECT, write_digits
from server import free_port

from pipeline.tracking import names

DEPLOY = PROJECT / "deploy"
PAGE = PROJECT / "docs" / "team-server.md"


def command(name: str) -> str:
    """The lines that follow a mark in the page."""
    found = re.search(rf"<!-- {name} -->\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found, name
    return found[1]


def status(url: str, host: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Host": host})) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_commands_make_a_server_for_a_team(postgresql: str, tmp_path: Path, digits: np.ndarray) -> None:
    psycopg2 = pytest.importorskip("psycopg2")
    write_digits(tmp_path / "digits", digits[:100])
    place, port = urlparse(postgresql), str(free_port())
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(binaries), os.environ["PATH"]]),
        "PYTHONPATH": str(PROJECT),
        **{"PGHOST": "127.0.0.1", "PGPORT": str(place.port), "PGUSER": str(place.username)},
        **{"HOST": "127.0.0.1", "PORT": port, "ARTIFACTS": str(tmp_path / "artifacts-of-all")},
    }

    def run(script: str) -> None:
        subprocess.run(["bash", "-euc", script], cwd=tmp_path, env=environment, check=True, timeout=200)

    run(command("database"))
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            ["bash", "-euc", command("server")],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                break
            assert server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        run(command("train").rstrip() + " --dataset digits --epochs 1 --batch-size 16 --allow-worse")
        runs = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get?experiment_id=0"
        assert (status(runs, f"127.0.0.1:{port}"), status(runs, "elsewhere.example")) == (200, 403)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert not (tmp_path / "mlflow.db").exists()
    with psycopg2.connect(postgresql.replace("+psycopg2", "").removesuffix("postgres") + "mlflow") as database:
        cursor = database.cursor()
        cursor.execute(
            "SELECT runs.status, value FROM runs JOIN latest_metrics USING (run_uuid) WHERE key = %s",
            [names.noise_metric("psnr", "0.01")],
        )
        ((ended, psnr),) = cursor.fetchall()
    assert ended == "FINISHED"
    assert psnr > 0
    assert list((tmp_path / "artifacts-of-all").rglob(names.REPORT))
    run(command("backup"))
    listed = subprocess.run(["pg_restore", "--list", "mlflow.dump"], cwd=tmp_path, env=environment, capture_output=True)
    assert b"TABLE DATA public latest_metrics" in listed.stdout
    assert list((tmp_path / "artifacts-copy").rglob(names.REPORT))


def test_the_files_for_other_machines_can_be_read() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    pinned = re.search(r"mlflow==[\d.]+", (PROJECT / "setup.cfg").read_text())
    assert pinned
    assert pinned[0] in compose["services"]["server"]["command"][-1]
    assert pinned[0] in PAGE.read_text()
    assert compose["services"]["server"]["ports"] == ["${HOST:-127.0.0.1}:5000:5000"]
    kubernetes = json.loads((DEPLOY / "kubernetes.json").read_text())
    assert yaml.safe_load((PROJECT / kubernetes["kube-job-template-path"]).read_text())["kind"] == "Job"
    assert "num_workers" in json.loads((DEPLOY / "databricks.json").read_text())
