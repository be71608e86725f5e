"""A SQLite store that was moved or copied with its artifacts belongs to the folder that it is in."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from calls import run_all
from conftest import Cli, Trained, environment
from PIL import Image


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def make_store(folder: Path, **variables: str) -> None:
    """As a process in this folder makes it that writes a run."""
    code = "from pipeline.tracking.store import connect; connect(create=True)"
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment(**variables), check=True)


@pytest.fixture
def copy(trained: Trained, tmp_path: Path) -> Path:
    """A copy of a project with one run."""
    folder = tmp_path / "copy"
    folder.mkdir()
    shutil.copy(trained.cwd / "mlflow.db", folder)
    shutil.copytree(trained.cwd / "mlruns", folder / "mlruns")
    return folder


def test_a_copied_project_is_noticed_and_mended_and_leaves_the_first_one_alone(
    trained: Trained, copy: Path, cli: Cli
) -> None:
    before = files(trained.cwd)
    done = cli("compare", cwd=copy)
    assert (done.code, len(done.err.splitlines())) == (1, 1), done
    assert (
        f"mlflow.db was moved or copied, it seems, and still leads to artifacts in {trained.cwd}/mlruns: " in done.err
    )
    assert "python -m pipeline doctor --fix has it lead to those in " in done.err

    done = cli("doctor", "--fix", cwd=copy)
    assert (done.code, done.err) == (0, ""), done
    assert f"fixed, it leads to the artifacts in {copy}/mlruns; a copy from before is in " in done.out
    assert "artifacts: ok" in done.out
    assert len(list(copy.glob("mlflow.db.before-move-*"))) == 1

    found = files(copy)
    done = cli("compare", cwd=copy)
    assert (done.code, done.err) == (0, ""), done
    assert [path for path in files(copy) - found if path.parts[0] == "mlruns"]
    assert files(trained.cwd) == before
    client = mlflow.MlflowClient(f"sqlite:///{copy / 'mlflow.db'}")
    (model,) = client.search_logged_models(["0"])
    (version,) = client.search_model_versions("name = 'digits'")
    assert client.get_model_version_download_uri("digits", version.version) == model.artifact_location
    assert model.artifact_location.startswith(f"{copy}/mlruns/")


def test_a_project_that_was_moved_before_its_first_run(cli: Cli, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    make_store(first)
    first.rename(second)
    assert f"leads to artifacts in {first}/mlruns" in cli("compare", cwd=second).err
    assert cli("doctor", "--fix", cwd=second).code == 0
    assert "no finished and evaluated runs" in cli("compare", cwd=second).err
    assert not first.exists()


def test_a_store_whose_artifacts_are_elsewhere_on_purpose_is_left_alone(
    trained: Trained, tmp_path: Path, cli: Cli
) -> None:
    shutil.copy(trained.cwd / "mlflow.db", tmp_path)
    done = cli("doctor")
    assert (done.code, done.err) == (0, ""), done


def test_a_store_that_was_made_from_another_folder_was_not_moved(tmp_path: Path, cli: Cli) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    make_store(elsewhere, MLFLOW_TRACKING_URI=f"sqlite:///{project / 'mlflow.db'}")
    assert "no finished and evaluated runs" in cli("compare", cwd=project).err
    shutil.copy(project / "mlflow.db", elsewhere)  # but then it may have been copied from there
    assert "was moved or copied" in cli("compare", cwd=project).err


def test_the_ui_notices_a_moved_store_as_the_other_commands_do(tmp_path: Path, cli: Cli) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    make_store(first)
    first.rename(second)
    done = cli("ui", "--port", "0", cwd=second)
    assert (done.code, len(done.err.splitlines())) == (1, 1), done
    assert "was moved or copied" in done.err


def test_a_command_that_only_reads_makes_no_store(tmp_path: Path) -> None:
    named = "there is no tracking store "
    calls = {
        ("compare",): (1, "no finished and evaluated runs to compare"),
        ("compare", "0" * 32): (2, named),
        ("denoise", "digit.png", "--model", "models:/digits@champion", "--output", "out"): (2, named),
        ("evaluate",): (1, "mlflow.db, which is not there, has no finished training run; run: "),
        ("evaluate", "--run-id", "0" * 32): (2, named),
        ("export",): (1, "mlflow.db, which is not there, has no finished and evaluated run on dataset 'mnist' "),
        ("promote", "digits"): (2, named),
        ("push", "http://127.0.0.1:9"): (2, named),
        ("run", "--resume", "0" * 32): (2, named),
    }
    Image.new("L", (20, 20)).save(tmp_path / "digit.png")
    for words, done in zip(calls, run_all(tmp_path, [*calls]), strict=True):
        code, said = calls[words]
        assert (done.code, len(done.err.splitlines())) == (code, 1), (words, done)
        assert said in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["digit.png"]
