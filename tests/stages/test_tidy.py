"""`tidy` says what is on disk, and removes what a rule names, but nothing that is registered."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pytest
from conftest import Cli, Result, Trained, run_cli

from pipeline.cli.commands import cli as commands
from pipeline.stages.tidy import RULES, size_text
from pipeline.tracking import names


@pytest.fixture
def folder(trained: Trained, tmp_path: Path) -> Path:
    """A project with the trained run, which is registered, one that failed, and one that was deleted in the UI."""
    shutil.copytree(trained.cwd, tmp_path / "project", dirs_exist_ok=True)
    folder = tmp_path / "project"
    assert run_cli("doctor", "--fix", cwd=folder).code in (0, 1)  # leads the copied store to its artifacts
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    for name, status in (("failed", "FAILED"), ("deleted", "FINISHED")):
        run_id = client.create_run("0", run_name=name).info.run_id
        client.log_text(run_id, name * 1000, "notes.txt")
        client.create_logged_model("0", names.DENOISER, run_id)
        client.set_terminated(run_id, status)
        if name == "deleted":
            client.delete_run(run_id)
    return folder


def tidy(folder: Path, *arguments: object) -> Result:
    done = run_cli("tidy", *arguments, cwd=folder)
    assert (done.code, done.err) == (0, ""), done
    return done


def names_of(folder: Path) -> set[str]:
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return {run.info.run_name for run in client.search_runs(["0"], run_view_type=3)}


def test_only_what_a_rule_names_is_removed_and_only_if_asked_for(folder: Path, trained: Trained) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix != ".lock"}
    done = tidy(folder, "--rule", "all")
    assert "tidy: 3 runs: artifacts " in done.out
    assert "tidy: failed (failed or killed): 1 run, 5.9 KiB" in done.out
    assert f"tidy: keeping run {trained.run_id} (autoencoder-digits-var0.01-seed0, FINISHED, " in done.out
    assert ": it is digits version 1\n" in done.out
    assert done.out.endswith("tidy: 2 runs, 12.7 KiB; --delete removes them\n")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix != ".lock"} == before

    handoff = folder / "artifacts" / "of-the-failed"
    shutil.copytree(folder / "artifacts" / "small", handoff)
    (failed,) = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_runs(["0"], "status = 'FAILED'")
    manifest = handoff / "manifest.json"
    manifest.write_text(manifest.read_text().replace(trained.run_id, failed.info.run_id))
    assert tidy(folder, "--rule", "failed", "--older-than", 1, "--delete").out.endswith(
        "tidy: 0 runs, 0 bytes removed\n"
    )
    done = tidy(folder, "--rule", "failed", "--delete")
    assert f"tidy: removing run {failed.info.run_id} (failed, FAILED, " in done.out
    assert names_of(folder) == {"autoencoder-digits-var0.01-seed0", "deleted"}
    assert [path.name for path in (folder / "artifacts").iterdir()] == ["small"]
    assert list((folder / "mlruns").rglob(f"*{failed.info.run_id}*/**/*")) == []

    done = tidy(folder, "--rule", "all", "--delete")
    assert names_of(folder) == {"autoencoder-digits-var0.01-seed0"}
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    assert [model.source_run_id for model in client.search_logged_models(["0"])] == [trained.run_id]
    assert run_cli("verify", folder / "artifacts" / "small", cwd=folder).code == 0
    assert run_cli("promote", "digits", cwd=folder).code == 0
    assert "it is digits version 1, champion" in tidy(folder, "--rule", "all").out


def test_an_empty_folder_has_nothing(cli: Cli, tmp_path: Path) -> None:
    done = cli("tidy", "--rule", "all")
    assert (done.code, done.out.splitlines()[-1]) == (0, "tidy: 0 runs, 0 bytes"), done
    assert list(tmp_path.iterdir()) == []
    done = cli("tidy", "--delete")
    assert (done.code, "--delete needs a --rule" in done.err) == (2, True), done


def test_the_command_line_offers_every_rule() -> None:
    (rule,) = (param for param in commands.commands["tidy"].params if param.name == "rule")
    assert tuple(rule.type.choices) == tuple(RULES)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1023, "1,023 bytes"), (1536, "1.5 KiB"), (3 * 2**40, "3,072.0 GiB")]
)
def test_sizes_are_read_at_a_glance(size: int, text: str) -> None:
    assert size_text(size) == text
