"""sweep: every combination is a run of its own; one that fails does not stop the others; nothing is run twice."""

from __future__ import annotations

import csv
import io
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote, urlparse

import mlflow
import numpy as np
import pytest
from conftest import HANG, Cli, environment, write_digits
from mlflow.entities import Run, RunData

from pipeline.stages import sweep as stages_sweep
from pipeline.tracking import names
from pipeline.tracking.event_log import Event
from pipeline.tracking.run import OpenRun
from pipeline.tracking.spool import Spool

SWEEP = ("sweep", "--dataset", "digits", "--batch-size", "16", "--variance", "0.001;0.01")


@pytest.fixture
def folder(tmp_path: Path, digits: np.ndarray) -> Path:
    write_digits(tmp_path / "digits", digits[:120])
    return tmp_path


def runs(folder: Path) -> tuple[list[Run], list[Run]]:
    """Parents, and children."""
    found = list(mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_runs(["0"]))
    children = [run for run in found if names.PARENT in run.data.tags]
    return [run for run in found if run not in children], children


def test_a_sweep_with_a_trial_that_fails_and_again(cli: Cli, folder: Path) -> None:
    sweep = ("sweep", "--dataset", "digits", "--batch-size", "16", "--epochs", 100)
    done = cli(*sweep, "--lr", "0.02;1e30", "--jobs", 2)
    assert done.code == 1
    (parent,), children = runs(folder)
    said = f"some trials failed; the same command with --resume {parent.info.run_id} runs them again"
    assert done.err == f"Error: {said}\n"
    assert done.out.count("training diverged") == 1
    assert sorted(child.info.status for child in children) == ["FAILED", "FINISHED"]
    assert {child.data.tags[names.PARENT] for child in children} == {parent.info.run_id}
    assert [path.name for path in (folder / "artifacts").iterdir()] == ["autoencoder-digits-var0.01-seed0-lr0.02"]
    assert (parent.info.status, parent.data.metrics[names.noise_metric("psnr_std_lr-0.02", "0.01")]) == ("FAILED", 0)

    # What is done is not done again, and becomes part of the sweep that goes on.
    done = cli(*sweep, "--lr", "0.02", "--seeds", 2, "--jobs", 2, "--resume", parent.info.run_id)
    assert done.code == 0, done
    (parent,), children = runs(folder)
    assert parent.info.status == "FINISHED"
    assert sorted(child.info.status for child in children) == ["FAILED"] + ["FINISHED"] * 2
    rows = [line for line in done.out.splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1  # aligned
    assert re.match(r"\| input, clipped to \[0, 1\] +\| +[\d.]+ \|", rows[2])
    assert re.match(r"\| autoencoder +(\| +[\d.]+ ± [\d.]+ ){3}\| +2 \| +16,385 \| +\d+ s \|$", rows[3])
    artifacts = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").list_artifacts(parent.info.run_id)
    assert {names.SWEEP_TABLE, names.FIGURES} <= {entry.path for entry in artifacts}
    assert "±" in parent.data.tags[names.NOTE]
    assert parent.data.metrics[names.noise_metric("psnr_std_autoencoder", "0.01")] > 0  # two seeds, not one twice

    check_compare(cli, folder, parent, children)


def check_compare(cli: Cli, folder: Path, parent: Run, children: list[Run]) -> None:
    """Of a sweep, of all runs of the experiment, and of two."""
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    good = sorted((run for run in children if run.info.status == "FINISHED"), key=lambda run: run.data.params["seed"])
    done = cli("compare", parent.info.run_id)
    assert done.code == 0, done
    assert "kinds of data" not in done.out
    assert [line[-21:] for line in done.err.splitlines()] == ["left out: it is FAILED"[-21:]]
    assert re.search(r"\| 1 \* \| +autoencoder-\S+ \| +autoencoder \| +0, 1 \|( +\S+ ± \S+ \|| +\S+ \|){4}", done.out)
    content = (folder / names.COMPARISON / names.COMPARISON_PAGE).read_text()
    assert not re.search(r"(src|href)=(?![\"'](data:|#))", content)  # nothing is fetched
    assert content.count("<svg") == 3  # by noise PSNR and SSIM, and the learning curves
    rows = list(csv.DictReader(io.StringIO(cli("compare", parent.info.run_id, "--format", "csv").out)))
    assert {row["run_id"] for row in rows} == {run.info.run_id for run in good}
    assert [(row["place"], row["verdict"]) for row in rows] == 2 * [("1", "better than its input")]
    stored = client.list_artifacts(runs(folder)[0][0].info.run_id, names.COMPARISON)
    assert f"{names.COMPARISON}/{names.COMPARISON_PAGE}" in {entry.path for entry in stored}

    # Two runs.
    first, second = good
    done = cli("compare", first.info.run_id, second.info.run_id)
    assert "seed: 0 -> 1\n" in done.out
    assert re.search(r"over 2 and 2 seeds: .* dB, no more than twice the spread over seeds", done.out)

    # One on other images, another whose pictures are lost and damaged, and one with a figure that is none.
    client.set_tag(second.info.run_id, names.TEST_IMAGES_SHA256, "0" * 64)
    artifacts = {run.info.run_id: Path(unquote(urlparse(run.info.artifact_uri).path)) for run in good}
    (artifacts[first.info.run_id] / names.SAMPLES).unlink()
    (artifacts[second.info.run_id] / names.SAMPLES).write_bytes(b"PK")
    done = cli("compare", first.info.run_id, second.info.run_id)
    assert done.code == 0, done
    assert "2 kinds of data and noise, which do not compare: a table for each" in done.out
    assert "the data or the noise differ, so the PSNRs cannot be compared" in done.out
    assert f"no pictures: run {first.info.run_id} has no artifact {names.SAMPLES}" in done.err
    assert f"no pictures: {names.SAMPLES} of run {second.info.run_id} is damaged" in done.err
    assert (folder / names.COMPARISON / names.COMPARISON_PAGE).read_text().count("<svg") == 2 * 3
    client.log_metric(second.info.run_id, names.test_metric("psnr"), float("nan"), step=10**9)
    done = cli("compare", first.info.run_id, second.info.run_id)
    assert f"run {second.info.run_id} is left out: it has a test/psnr of nan" in done.err

    for arguments, (said, code) in {
        ("0" * 32,): ("not found", 2),
        ("--query", "psnr >"): ("query 'psnr >': Invalid clause(s)", 2),
        ("--query", "params.model = 'none'"): ("no finished and evaluated runs to compare", 1),
    }.items():
        done = cli("compare", *arguments)
        assert done.code == code, done
        assert said in done.err
        assert len(done.err.splitlines()) == 1


def test_a_trial_that_dies_is_killed_and_the_sweep_goes_on_until_it_is_stopped(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *SWEEP, "--variance", "0.1", "--epochs", "4999", "--jobs", "2"],
        cwd=folder,
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def wait_until_trained(trials: int) -> None:
        while len({path.parent for path in folder.glob("data/runs/*/states/*.pt")}) < trials:
            assert process.poll() is None
            time.sleep(0.1)

    wait_until_trained(2)
    server = subprocess.check_output(["pgrep", "-P", str(process.pid), "-f", "forkserver"], text=True)
    subprocess.run(["pkill", "-KILL", "--oldest", "-P", server.strip()], check=True)
    wait_until_trained(3)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=HANG)
    assert "trial 1 of 3: autoencoder-digits-var0.001-seed0: exit code -9" in out
    (parent,), children = runs(folder)
    said = f"Stopped by SIGTERM; resume with: the same command and --resume {parent.info.run_id}"
    assert (process.returncode, err.splitlines()[-1]) == (143, said), err
    assert parent.info.status == "KILLED"
    assert sorted(run.info.status for run in children) == ["KILLED", "KILLED", "KILLED"]
    notes = sorted(run.data.tags[names.NOTE].partition(";")[0] for run in children)
    assert notes[2] == "Killed: its process vanished: kill -9, no memory left, or the machine stopped"
    assert notes[:2] == ["Killed: by SIGTERM"] * 2


def test_a_sweep_that_is_resumed_after_its_table_was_logged_logs_nothing_twice(tmp_path: Path) -> None:
    sent: list[Event] = []
    spool = Spool(tmp_path, lambda _, events: sent.extend(events))
    run = OpenRun("0" * 32, tmp_path, spool, RunData())
    scores = {name: {"psnr": value} for name, value in (("noisy", 20.0), ("clipped", 21.0), ("denoised", 25.0))}
    for seconds in (1.0, 2.0):
        stages_sweep._log(
            run, {"unet": [stages_sweep._Result({"results": {"0.01": scores}}, 10, seconds, False, "0.01")]}
        )
    spool.close()
    metrics = [event["metrics"] for event in sent if event.get("metrics")]
    assert metrics == [{"test/psnr_mean_unet/0.01": 25.0, "test/psnr_std_unet/0.01": 0.0}]


def test_the_table_shows_the_noise_of_a_training_that_others_were_not_scored_at() -> None:
    def result(own: str, psnr: float) -> stages_sweep._Result:
        scores = {name: {"psnr": value} for name, value in (("noisy", 20.0), ("clipped", 21.0), ("denoised", psnr))}
        return stages_sweep._Result({"results": {"0.01": scores, own: scores}}, 10, 1.0, False, own)

    groups = {"variance=0.01": [result("0.01", 25)], "variance=0.05": [result("0.05", 23), result("0.05", 24)]}
    rows = stages_sweep._rows(groups, ["0.01"])
    assert [row[:3] for row in rows] == [
        ["", "0.01", "noise of its training"],
        ["input, clipped to [0, 1]", "21.00", ""],
        ["variance=0.01", "25.00", "0.01: 25.00"],
        ["variance=0.05", "23.50 ± 0.71", "0.05: 23.50 ± 0.71"],
    ]
    assert {len(row) for row in rows} == {6}
    assert "noise of its training" not in stages_sweep._rows({"variance=0.01": groups["variance=0.01"]}, ["0.01"])[0]
