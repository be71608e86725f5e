"""The quality gate: what is no better than doing nothing is scored, named, and not handed off."""

from __future__ import annotations

import json
import re
from pathlib import Path

import mlflow
import numpy as np
import pytest
from calls import run_all
from conftest import Cli, Result, write_digits
from mlflow.entities import Run
from PIL import Image

from pipeline.cli.exits import ExitCode
from pipeline.tracking import names

BAD = ("--dataset", "digits", "--epochs", 1, "--batch-size", 64)  # seven steps: a gray rectangle


def the_runs(folder: Path) -> list[Run]:
    return list(mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_runs(["0"]))


def artifact(folder: Path, run: Run, name: str) -> str:
    return (folder / "mlruns" / "0" / run.info.run_id / "artifacts" / name).read_text()


def write_npy(folder: Path, images: np.ndarray) -> None:
    """Each image as a file of an array [H, W], for `prepare`."""
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        np.save(folder / f"{number:03}.npy", image)


def check_refused(done: Result, why: str) -> None:
    assert done.code == ExitCode.NOT_GOOD_ENOUGH, done
    assert len(done.err.splitlines()) == 1
    assert why in done.err
    assert "No hand-off was written" in done.err


def test_a_gray_rectangle_is_not_handed_off(cli: Cli, tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:300])
    (tmp_path / "artifacts" / "mine").mkdir(parents=True)
    (tmp_path / "artifacts" / "mine" / "SHA256SUMS").write_text("of an earlier model\n")
    done = cli("run", *BAD, "--name", "mine", "--register", "digits")
    check_refused(done, "The output is no better than the clipped input: PSNR")
    assert "--allow-worse" in done.err
    assert "no better" not in done.out  # once is enough
    assert [path.name for path in (tmp_path / "artifacts").rglob("*")] == ["mine", "SHA256SUMS"]
    (run,) = the_runs(tmp_path)
    assert run.info.status == "FINISHED"  # its model is trained and scored
    assert run.data.tags[names.QUALITY] == "worse"
    assert "**The output is no better than the clipped input" in run.data.tags[names.NOTE]
    assert names.PARITY not in run.data.tags
    said = done.err.strip().removeprefix("Error: ")
    assert run.data.tags[names.ERROR] == said
    assert run.data.tags[names.NOTE].startswith(f"No hand-off: {said}\n\nautoencoder (16,385 parameters)")
    assert artifact(tmp_path, run, names.TRACEBACK).endswith(f"QualityError: {said}\n")
    assert artifact(tmp_path, run, names.CONSOLE).endswith(f"\n{done.err}")

    # Allowed, it is handed off, and every text says what it is.
    done = cli("run", *BAD, "--name", "mine", "--register", "digits", "--allow-worse")
    assert done.code == 0, done
    folder = tmp_path / "artifacts" / "mine"
    assert "**The output is no better than the clipped input" in (folder / "MODEL_CARD.md").read_text()
    assert json.loads((folder / "manifest.json").read_text())["test"]["better_than_doing_nothing"] is False
    assert "<strong>The output is no better than the clipped input" in artifact(tmp_path, run, names.REPORT)
    (again,) = the_runs(tmp_path)
    assert again.data.tags[names.ERROR] == ""
    assert again.data.tags[names.NOTE].startswith("autoencoder (16,385 parameters)")
    assert "evaluate: reusing" in artifact(tmp_path, run, names.CONSOLE).partition("Error: ")[2]  # appended
    done = cli("compare")
    assert "The output is no better than the clipped input" in done.out
    assert "The output is no better than the clipped input" in (tmp_path / "comparison" / "comparison.html").read_text()

    # It stays a gate for what is there already.
    check_refused(cli("export", "--dataset", "digits", "--name", "mine"), "The output is no better")
    done = cli("promote", "digits")
    assert done.code == ExitCode.NOT_GOOD_ENOUGH, done
    assert "digits version 1 does not become the champion: The output is no better than the clipped input" in done.err
    done = cli("promote", "digits", "--force")
    assert (done.code, done.out) == (0, "promote: digits version 1 is the first champion\n"), done


def test_the_table_of_a_sweep_names_what_is_worse(cli: Cli, tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:100])
    done = cli("sweep", *BAD, "--seeds", 2)
    assert done.code == 0, done
    said = "2 of 2 no better than the clipped input, with the noise of the training"
    assert said in done.out
    (parent,) = [run for run in the_runs(tmp_path) if names.WEIGHTS not in run.data.tags]
    assert said in artifact(tmp_path, parent, names.SWEEP_TABLE)


def test_more_can_be_asked_for(tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:600])
    good = ("--dataset", "digits", "--epochs", "6", "--batch-size", "8", "--name", "good")
    calls = [
        ["run", *good, "--min-gain", "30"],
        ["export", "--dataset", "digits", "--min-psnr", "60"],
        ["run", *good, "--min-gain", "1", "--min-psnr", "24"],
        ["run", *good, "--epochs", "1", "--dry-run"],
        ["run", *good, "--epochs", "1", "--allow-worse"],
    ]
    gain, quality, enough, dry, another = run_all(tmp_path, calls)
    check_refused(gain, "--min-gain 30: the gain is ")
    assert "--allow-worse" not in gain.err
    check_refused(quality, "--min-psnr 60: the PSNR is ")
    assert enough.code == 0, enough
    assert "evaluate: reusing" in enough.out
    assert "replaces" not in enough.out
    (run_id,) = re.findall("run: (\\w{32});", enough.out)
    assert f"export: would write artifacts/good, instead of that of run {run_id}\n" in dry.out
    assert f"export: artifacts/good: replaces that of run {run_id}\n" in another.out


@pytest.mark.parametrize("kind", ["pairs", "bursts", "noisy"])
def test_every_layout_is_scored_in_its_own_way(kind: str, tmp_path: Path, digits: np.ndarray) -> None:
    random = np.random.default_rng(0)
    clean = digits[:40].astype(np.float32) / 255
    draws = [clean + 0.1 * random.standard_normal(clean.shape).astype(np.float32) for _ in range(3)]
    twelve = [np.rint(np.clip(draw, 0, 1) * 4095).astype(np.uint16) for draw in draws]
    if kind == "pairs":
        write_npy(tmp_path / "mine" / "clean", np.rint(clean * 4095).astype(np.uint16))
        write_npy(tmp_path / "mine" / "noisy", twelve[0])
    elif kind == "bursts":
        for number in range(len(clean)):
            write_npy(tmp_path / "mine" / "noisy" / f"scene{number:03}", np.stack([draw[number] for draw in twelve]))
    else:
        write_npy(tmp_path / "mine" / "noisy", twelve[0])
    train = ("--dataset", "mine", "--epochs", "1", "--batch-size", "8", "--name", "mine")
    calls = [
        ["run", *train],
        ["run", *train, "--allow-worse", "--register", "mine", "--variant", "int8"],
        ["verify", "artifacts/mine"],
        ["compare"],
        ["promote", "mine"],
        ["run", *train, "--variant", "uint8"],
    ]
    refused, allowed, verified, compared, promoted, mistaken = run_all(tmp_path, calls)
    check_refused(refused, "The output is no better than the clipped input")
    assert "100.0" not in refused.out
    (run,) = (run for run in the_runs(tmp_path) if names.WEIGHTS in run.data.tags)
    report = json.loads(artifact(tmp_path, run, names.EVALUATION))
    assert set(report["results"]) == {"recorded"}
    assert "curve" not in report
    found = report["results"]["recorded"]["denoised"]
    wanted = {"pairs": "psnr", "bursts": "psnr_estimated", "noisy": "sigma"}[kind]
    assert [key for key in ("psnr", "psnr_estimated", "sigma") if key in found] == [wanted]
    assert names.noise_metric(wanted, "recorded") in run.data.metrics

    assert allowed.code == 0, allowed
    assert verified.code == 0, verified
    folder = tmp_path / "artifacts" / "mine"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["white"], manifest["black"], manifest["pixel_type"]) == (4095, 0, "uint16")
    samples = {path.name.split("_")[1] for path in (folder / "samples").iterdir()}
    assert samples == {"noisy.png", "denoised.png"} | ({"clean.png"} if kind == "pairs" else set())
    card = (folder / "MODEL_CARD.md").read_text()
    assert "12 bits in 16: 4,095 is white, 0 is black" in card
    assert {"pairs": "PSNR of the input", "bursts": "estimated PSNR of the input", "noisy": "noise level"}[kind] in card
    version = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_model_version("mine", "1")
    assert names.version_tag(wanted, "recorded") in version.tags
    assert compared.code == 0, compared
    assert (promoted.code, "does not become the champion" in promoted.err) == (5, True), promoted
    assert (mistaken.code, mistaken.err) == (
        1,
        "Error: --variant uint8: it takes uint8 pixels, and the data have uint16 ones\n",
    )


def test_noise_of_another_kind_needs_clean_images(cli: Cli, tmp_path: Path, digits: np.ndarray) -> None:
    (tmp_path / "mine" / "noisy").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number, digit in enumerate(digits[:30]):
        noisy = np.clip(digit + 25 * random.standard_normal(digit.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(tmp_path / "mine" / "noisy" / f"{number}.png")
    assert cli("prepare", "--dataset", "mine").code == 0
    done = cli("train", "--dataset", "mine", "--epochs", 1, "--batch-size", 8)
    assert done.code == 0, done
    done = cli("evaluate", "--noise", "poisson")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "the data have no clean images to add noise to; use recorded" in done.err


def test_a_resumed_run_is_held_to_what_it_was_started_with(tmp_path: Path, cli: Cli, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:40])
    started = ("run", "--dataset", "digits", "--name", "mine", "--min-gain", 90, "--allow-worse")
    assert cli(*started, "--epochs", 1).code == 5
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs(["0"])
    client.set_terminated(run.info.run_id, "KILLED")
    done = cli("run", "--resume", run.info.run_id)
    assert done.code == 5, done
    assert "--min-gain 90" in done.err
