"""What a run ran on is kept with it: the machine, every package, how the source was edited, the load if asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import types
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import PROJECT, Trained

from pipeline.tracking import git, names
from pipeline.tracking.environment import describe_environment
from pipeline.tracking.system_metrics import system_metrics


def test_a_run_keeps_its_environment(trained: Trained) -> None:
    path = trained.cwd / "mlruns" / "0" / trained.run_id / "artifacts" / names.ENVIRONMENT
    found = json.loads(path.read_text())
    for name in ("torch", "mlflow", "numpy", "onnxruntime", "pytest"):
        assert found["packages"][name] == version(name)
    assert found["threads"]["torch"] == 1  # the tests set OMP_NUM_THREADS
    assert found["environment"]["OMP_NUM_THREADS"] == "1"
    assert found["cpu"]["usable"] >= 1
    assert found["memory"]["bytes"] > 2**28
    assert all(found["os"].values())
    assert str(Path.home()) not in path.read_text()


def test_it_needs_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert "threads" not in describe_environment()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a package in it, which is taken for this one."""
    shutil.copytree(PROJECT / "pipeline" / "tracking", tmp_path / "pipeline" / "tracking")
    commands = [
        ("init", "-q"),
        ("add", "."),
        ("-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "m"),
    ]
    for command in commands:
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(git, "_PACKAGE", tmp_path / "pipeline")
    monkeypatch.setattr(git, "__file__", str(tmp_path / "pipeline" / "tracking" / "git.py"))
    return tmp_path


def test_edits_of_the_source_can_be_applied_again(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert git.source_diff() == ""
    (checkout / "notes.txt").write_text("not of the package")
    assert git.source_diff() == ""
    names_file = checkout / "pipeline" / "tracking" / "names.py"
    names_file.write_text(names_file.read_text() + "EDITED = 1\n")
    (checkout / "pipeline" / "new.py").write_text("print('é')\n")
    diff = git.source_diff()
    assert "notes.txt" not in diff

    clean = tmp_path_factory.mktemp("clean")
    subprocess.run(["git", "clone", "-q", str(checkout), str(clean)], check=True)
    subprocess.run(["git", "-C", str(clean), "apply"], input=diff, text=True, check=True)
    for path in (names_file, checkout / "pipeline" / "new.py"):
        assert (clean / path.relative_to(checkout)).read_bytes() == path.read_bytes()

    (checkout / "pipeline" / "large.txt").write_text("x" * 3 * 2**20)
    assert len(git.source_diff()) < 2**20 + 100
    assert git.source_diff().endswith("\n(cut off: it is longer than 1,048,576 characters)\n")


def test_a_package_outside_of_its_own_checkout_has_none(checkout: Path) -> None:
    installed = checkout / "venv" / "pipeline"  # inside of somebody's repository, but not of it
    shutil.copytree(checkout / "pipeline", installed)
    git._PACKAGE, git.__file__ = installed, str(installed / "tracking" / "git.py")  # the fixture puts them back
    assert (git.git_tags(), git.source_diff()) == ({}, "")


@pytest.fixture
def psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one, or else what MLflow's monitors ask of it."""
    try:
        import psutil  # noqa: F401
    except ImportError:
        usage = types.SimpleNamespace(used=1e6, total=2e6, percent=50.0, free=1e6, bytes_sent=1, bytes_recv=1)
        fake = types.ModuleType("psutil")
        fake.__spec__ = types.SimpleNamespace(name="psutil")  # type: ignore[assignment]
        for name in ("virtual_memory", "disk_usage", "net_io_counters"):
            setattr(fake, name, lambda *_: usage)
        fake.cpu_percent = lambda: 50.0  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "psutil", fake)


def measure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[dict[str, float], int]]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none.db'}")
    found: list[tuple[dict[str, float], int]] = []
    with system_metrics("0" * 32, lambda metrics, step: found.append((metrics, step))):
        pass
    return found


@pytest.mark.usefixtures("psutil")
def test_system_metrics_are_measured_if_mlflows_switch_asks_for_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure(monkeypatch, tmp_path) == []
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    ((metrics, step),) = measure(monkeypatch, tmp_path)  # one, however short it was
    assert step == 0
    assert 0 <= metrics["system/cpu_utilization_percentage"] <= 100
    assert capsys.readouterr().out == ""


def test_without_psutil_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setattr("pipeline.tracking.system_metrics.find_spec", lambda name: None)
    assert measure(monkeypatch, tmp_path) == []
    said = capsys.readouterr().out
    assert said == "tracking: no system metrics, because psutil is not installed; run: pip install psutil\n"
