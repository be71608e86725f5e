"""Who started this process, and what that changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment

from pipeline import launcher


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "RANK", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)


def test_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")  # some schedulers set it without torchrun
    monkeypatch.setenv("RANK", "2")
    assert (launcher.count(), launcher.rank()) == (1, 0)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert (launcher.count(), launcher.rank()) == (4, 2)


def test_mlflow_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not launcher.in_mlflow_run()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")  # a user may have set that
    assert not launcher.in_mlflow_run()
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    assert launcher.in_mlflow_run()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="not run: needs /proc")
def test_a_process_ends_with_the_one_that_started_it() -> None:
    """Also where a shell stands between them."""
    child = (
        "import time; from pipeline.launcher import stop_with_launcher; "
        "stop_with_launcher(); print('up', flush=True); time.sleep(60); print('late')"
    )
    parent = f"import subprocess, sys; subprocess.run(['sh', '-c', sys.executable + ' -c \"$0\"; true', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], env=environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        process.kill()
        process.wait()
        assert process.stdout.read() == b""  # which ends when the last process that could write has ended


FORKED = """
import multiprocessing, time
from pipeline.launcher import stop_with_launcher

def child():
    stop_with_launcher()
    print("up", flush=True)
    time.sleep(60)
    print("late", flush=True)

if __name__ == "__main__":
    multiprocessing.get_context("forkserver").Process(target=child).start()
    time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="not run: needs /proc")
def test_a_forked_process_ends_with_the_one_that_asked_for_it(tmp_path: Path) -> None:
    """As the trials of a sweep are: the process that they are forked from lives as long as they do."""
    (tmp_path / "parent.py").write_text(FORKED)
    command = [sys.executable, str(tmp_path / "parent.py")]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        process.kill()
        process.wait()
        assert process.stdout.read() == b""
