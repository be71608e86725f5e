"""The classical denoisers and the reader of digits, on real digits."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from conftest import Cli, write_digits

from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.errors import PipelineError
from pipeline.noise import make_noise
from pipeline.scoring.classical import BASELINES, baseline_denoiser, missing, tune
from pipeline.scoring.digit_reader import WEIGHTS, load_classifier
from pipeline.scoring.metrics import psnr
from pipeline.scoring.score import noisy_batches
from pipeline.tracking import names

INSTALLED = [name for name in BASELINES if not missing(name)]


def test_those_of_scikit_image_are_installed_with_the_tests() -> None:
    assert set(INSTALLED) >= {"gaussian", "median", "wavelet", "tv", "nlm"}


@pytest.mark.parametrize("name", INSTALLED)
def test_a_tuned_baseline_does_not_lose_to_clipping(name: str, digits: np.ndarray) -> None:
    pairs = list(noisy_batches(digits[:4, np.newaxis], make_noise("gaussian", "0.1")))
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


def test_each_baseline_is_a_run_with_the_metrics_of_a_model(cli: Cli, tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:15])  # two to tune on
    done = cli("baselines", "--dataset", "digits", "--images", 2)
    assert (done.code, done.err) == (0, "")
    runs = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").search_runs(["0"])
    assert {run.data.tags[names.MODEL] for run in runs} == set(INSTALLED)
    for name in BASELINES:
        assert f"baselines: {name}: " in done.out  # a figure, or that it was not run and how to install it
    for run in runs:
        assert run.data.tags[names.TEST_IMAGES] == "2"
        assert 10 < run.data.metrics[names.noise_metric("psnr", "0.01")] < 40
        assert run.inputs.dataset_inputs

    # A model trained on the same images is shown beside them; one on others is not.
    for folder in ("digits", "others"):
        if folder == "others":
            write_digits(tmp_path / folder, digits[20:35])
        done = cli("run", "--dataset", folder, "--epochs", 1, "--batch-size", 4, "--name", folder)
        assert done.code == 0, done
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    others, same = (
        Path(client.download_artifacts(run.info.run_id, names.REPORT, str(tmp_path))).read_text()
        for run in client.search_runs(["0"], max_results=2)
    )
    assert "nlm (2 images)" in same
    assert "nlm (2 images)" not in others


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
