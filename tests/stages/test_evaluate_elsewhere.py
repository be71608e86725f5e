"""evaluate --dataset: the model of a run on images that it has nothing to do with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import run_cli, write_digits
from PIL import Image

from pipeline.config import Config
from pipeline.data.images import Part
from pipeline.errors import ArgumentError
from pipeline.noise import make_noise
from pipeline.scoring import awgn
from pipeline.scoring.metrics import METRICS
from pipeline.scoring.score import clipped, score
from pipeline.stages.evaluate_elsewhere import _alone
from pipeline.tracking import names


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, digits: np.ndarray) -> Path:
    """A folder with an evaluated run whose data are gone."""
    folder = tmp_path_factory.mktemp("elsewhere")
    write_digits(folder / "digits", digits[:300])
    for command in ("prepare", "train", "evaluate"):
        options = ("--epochs", 2, "--batch-size", 8) if command == "train" else ()
        given = () if command == "evaluate" else ("--dataset", "digits")
        done = run_cli(command, *given, *options, cwd=folder)
        assert done.code == 0, done
    shutil.rmtree(folder / "digits")
    shutil.rmtree(folder / "data" / "prepared")
    return folder


def write_pairs(folder: Path, clean: np.ndarray, seed: int = 0) -> None:
    """16-bit pairs, with 1,023 as white."""
    random = np.random.default_rng(seed)
    noisy = clean / 255 + 0.1 * random.standard_normal(clean.shape)
    for name, images in (("gt", clean / 255), ("noisy", noisy.clip(0, 1))):
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(np.rint(image * 1023).astype(np.uint16)).save(folder / name / f"{number}.png")


def test_other_data_are_scored_by_their_own_levels_and_the_run_stays(folder: Path, digits: np.ndarray) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (before,) = client.search_runs(["0"])
    write_pairs(folder / "scans", digits[500:520])
    done = run_cli("evaluate", "--dataset", "scans", cwd=folder)
    assert done.code == 0, done
    assert "10 bits" in done.out
    assert "evaluate: scans: recorded: PSNR noisy 2" in done.out
    (after,) = client.search_runs(["0"])
    found = {name: value for name, value in after.data.metrics.items() if name.startswith("test-scans/")}
    assert set(found) == {f"test-scans/{metric}/recorded" for metric in ("psnr", "psnr_gain", "ssim")}
    clipped = found["test-scans/psnr/recorded"] - found["test-scans/psnr_gain/recorded"]
    assert clipped == pytest.approx(22.7, abs=0.5)
    assert {**before.data.metrics, **found} == after.data.metrics
    tag = names.other_data_tag("scans", "recorded")
    assert after.data.tags[tag] in ("better", "worse")
    assert {key: value for key, value in after.data.tags.items() if key != tag} == before.data.tags
    artifacts = folder / "mlruns" / "0" / after.info.run_id / "artifacts"
    assert (artifacts / names.figure_file("test-scans-recorded")).is_file()
    report = json.loads((artifacts / names.other_data_file("scans")).read_text())
    assert report["images"] == 20  # all: the model has seen none of them

    done = run_cli("evaluate", "--dataset", "scans", cwd=folder)
    assert "evaluate: scans: reusing the results of run" in done.out
    done = run_cli("evaluate", "--dataset", "scans", "--variance", 0.1, cwd=folder)
    assert "evaluate: scans: 0.1: PSNR noisy 10." in done.out
    history = client.get_metric_history(after.info.run_id, "test-scans/psnr/recorded")
    assert len(history) == 1
    shutil.rmtree(folder / "scans")
    write_pairs(folder / "scans", digits[500:510])
    done = run_cli("evaluate", "--dataset", "scans", "--white", 2046, cwd=folder)
    assert "reusing" not in done.out
    report = json.loads((artifacts / names.other_data_file("scans")).read_text())
    darker = report["results"]["recorded"]["clipped"]["psnr"]
    assert darker == pytest.approx(clipped + 20 * np.log10(2), abs=0.5)


def test_the_protocol_of_the_literature_is_logged_by_level(folder: Path, digits: np.ndarray) -> None:
    write_digits(folder / "set", digits[600:620])
    done = run_cli("evaluate", "--dataset", "set", "--protocol", "awgn", cwd=folder)
    assert done.code == 0, done
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs(["0"])
    artifacts = folder / "mlruns" / "0" / run.info.run_id / "artifacts"
    results = json.loads((artifacts / names.other_data_file("set")).read_text())["results"]
    found = [results[f"awgn-{sigma}"]["noisy"]["psnr"] for sigma in (15, 25, 50)]
    assert found == pytest.approx([24.61, 20.17, 14.15], abs=0.15)
    part, noise = awgn.ordered(Part(digits[600:620, np.newaxis])), awgn.noises()["awgn-50"]
    clipping = score(part, noise, {"clipped": clipped}, {"psnr": METRICS["psnr"]})["clipped"]["psnr"]
    assert results["awgn-50"]["clipped"]["psnr"] == pytest.approx(clipping.mean(), abs=1e-9)
    assert run.data.metrics["test-set/psnr/awgn-50"] > found[2]
    assert 0 < run.data.metrics["test-set/ssim/awgn-50"] < 1
    again = run_cli("evaluate", "--dataset", "set", "--protocol", "awgn", cwd=folder)
    assert "evaluate: set: reusing the results of run" in again.out
    assert again.out.splitlines()[-3:] == done.out.splitlines()[-3:]


def test_what_does_not_fit_is_refused_in_one_line(folder: Path, digits: np.ndarray) -> None:
    write_digits(folder / "digits", digits[:300])  # as the model was trained on
    (folder / "four").mkdir()
    np.save(folder / "four" / "stack.npy", np.zeros((4, 20, 20), np.uint8).repeat(1, 0)[np.newaxis])
    wrong = {
        ("--dataset", "four"): (
            "stack.npy: it has 4 channels, which cannot become 1; allowed are 1, and 3 (colour)",
            1,
        ),
        ("--dataset", "nowhere"): ("'nowhere' is neither an existing folder of images nor one of", 2),
        ("--white", "255"): ("--noisy, --white and --black are those of the images of --dataset", 2),
        ("--dataset", "digits"): ("the model was trained on images of this folder", 2),
        ("--dataset", "mnist", "--noise", "recorded"): ("the data have no noisy images, only clean ones", 1),
    }
    for words, (said, code) in wrong.items():
        done = run_cli("evaluate", *words, cwd=folder)
        assert (done.code, len(done.err.splitlines())) == (code, 1), done
        assert said in done.err
        assert "--channels" not in done.err  # an option that evaluate does not have


def test_to_clean_images_a_model_of_recorded_noise_is_told_which_noise_to_add(digits: np.ndarray) -> None:
    clean, recorded = Part(digits[:3, np.newaxis]), make_noise("recorded:sigma=0.1")
    with pytest.raises(ArgumentError, match=r"--dataset other: the images are clean, .* --variance 0.01"):
        _alone(recorded, clean, Config(dataset="other"))
    noisy = Part(None, digits[:3, np.newaxis], np.arange(3))
    assert list(_alone(recorded, noisy, Config(dataset="other"))) == [recorded.label]
