"""The classical denoisers and the reader of digits, on real digits."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from conftest import Cli, write_digits

from pipeline.data.images import Levels, Part
from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.errors import PipelineError
from pipeline.noise import make_noise
from pipeline.scoring.classical import BASELINES, Baseline, baseline_denoiser, missing, score_baseline, tune
from pipeline.scoring.digit_reader import WEIGHTS, load_classifier
from pipeline.scoring.metrics import psnr
from pipeline.scoring.score import noisy_batches
from pipeline.tracking import names, queries

INSTALLED = [name for name in BASELINES if not missing(name)]


def test_those_of_scikit_image_are_installed_with_the_tests() -> None:
    assert set(INSTALLED) >= {"gaussian", "median", "wavelet", "tv", "nlm"}


@pytest.mark.parametrize("name", INSTALLED)
def test_a_tuned_baseline_does_not_lose_to_clipping(name: str, digits: np.ndarray) -> None:
    pairs = list(noisy_batches(Part(digits[:4, np.newaxis]), make_noise("gaussian", "0.1")))
    parameter = tune(name, pairs, 0.1**0.5)
    assert parameter in BASELINES[name].parameters
    clean, noisy = pairs[0]
    denoised = baseline_denoiser(name, 0.1**0.5, parameter)(noisy)
    assert denoised.dtype == torch.float32
    assert denoised.min() >= 0
    assert denoised.max() <= 1
    assert psnr(denoised, clean).mean() > psnr(noisy.clamp(0, 1), clean).mean() + 2


@pytest.mark.parametrize("name", INSTALLED)
def test_colour_and_other_sizes_go_through(name: str) -> None:
    clean = torch.linspace(0, 1, 40).expand(2, 3, 30, 40)
    noisy = make_noise("gaussian", "0.01")(clean, torch.Generator().manual_seed(0))
    denoised = baseline_denoiser(name, 0.1, BASELINES[name].parameters[-1])(noisy)
    assert denoised.shape == clean.shape
    assert psnr(denoised, clean).mean() > 20


def test_each_baseline_is_a_run_with_the_metrics_of_a_model(
    cli: Cli, tmp_path: Path, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_digits(tmp_path / "digits", digits[:15])  # two to tune on
    done = cli("baselines", "--dataset", "digits", "--images", 2)
    assert (done.code, done.err) == (0, "")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.MlflowClient(store)
    runs = client.search_runs(["0"])
    assert {run.data.tags[names.MODEL] for run in runs} == set(INSTALLED)
    for name in BASELINES:
        assert f"baselines: {name}: " in done.out  # a figure, or that it was not run and how to install it
    for run in runs:
        assert run.data.tags[names.TEST_IMAGES] == "2"
        assert 10 < run.data.metrics[names.noise_metric("psnr", "0.01")] < 40
        assert run.inputs.dataset_inputs

    # The report of a model that was trained on the same images shows them; those of other images are never found.
    done = cli("run", "--dataset", "digits", "--epochs", 1, "--batch-size", 4, "--allow-worse")
    assert done.code == 0, done
    (run,) = client.search_runs(["0"], f"tags.{names.PARITY} = 'passed'")
    report = Path(client.download_artifacts(run.info.run_id, names.REPORT, str(tmp_path))).read_text()
    assert "nlm (2 images)" in report
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    mlflow.set_tracking_uri(store)
    found = queries.baselines(run.data.tags[names.TEST_IMAGES_SHA256], ["psnr"])
    assert set(found) == {f"{name} (2 images)" for name in INSTALLED}
    assert set(found["nlm (2 images)"]["psnr"]) == {"0.001", "0.01", "0.1"}
    assert queries.baselines("0" * 64, ["psnr"]) == {}


def test_tuning_takes_the_parameter_with_the_highest_psnr(digits: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def scale(image: np.ndarray, sigma: float, factor: float) -> np.ndarray:
        return image * factor

    monkeypatch.setitem(BASELINES, "scale", Baseline(scale, (0.5, 0.9, 1.2), (), ""))
    clean = torch.from_numpy(digits[:4, np.newaxis]).float() / 255
    assert tune("scale", [(clean, clean / 0.9)], 0.1) == 0.9
    parameters, results = score_baseline("scale", Part(digits[:5, np.newaxis]), Part(digits[5:8, np.newaxis]))
    assert set(parameters) == set(results) == {"0.001", "0.01", "0.1"}
    assert set(parameters.values()) <= {0.5, 0.9, 1.2}
    assert set(results["0.01"]["denoised"]) == {"mse", "psnr", "psnr_pooled", "ssim"}


def test_recorded_noise_is_measured_on_the_validation_images(
    digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def spy(image: np.ndarray, sigma: float, factor: float) -> np.ndarray:
        told.append(sigma)
        return image

    monkeypatch.setitem(BASELINES, "spy", Baseline(spy, (1,), (), ""))
    clean = digits[:20, np.newaxis].astype(np.float32) / 255
    noisy = clean + 0.07 * np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)
    part = Part(clean, noisy, np.arange(20), Levels(1))
    parameters, results = score_baseline("spy", part[:12], part[12:])
    assert parameters == {"recorded": 1}
    assert results["recorded"]["denoised"]["psnr"] > 20
    assert sorted(set(told)) == pytest.approx([0.07], rel=0.05)


def test_the_reader_reads_clean_digits_and_not_noisy_ones(digits: np.ndarray) -> None:
    labels = BundledMNIST().test_labels()
    classifier = load_classifier()
    clean = torch.from_numpy(digits[:, np.newaxis]).float() / 255
    accuracy = (classifier.read(clean).numpy() == labels).mean()
    assert accuracy > 0.993
    noise = make_noise("gaussian", "0.3")
    noisy = noise(clean[:2000], torch.Generator().manual_seed(0)).clamp(0, 1)
    assert (classifier.read(noisy).numpy() == labels[:2000]).mean() < accuracy - 0.01


def test_a_damaged_file_of_weights_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "digit_reader.npz"
    path.write_bytes(WEIGHTS.read_bytes()[:1000])
    with pytest.raises(PipelineError, match=r"digit_reader.npz is not a readable weights file"):
        load_classifier(path)
