"""Which of two models is better on the same images, and by how much."""

from __future__ import annotations

import math
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import Cli, write_digits

from pipeline.errors import PipelineError
from pipeline.stages.promote import Comparison
from pipeline.tracking import names


def test_the_difference_is_taken_image_by_image() -> None:
    challenger, champion = np.array([30.0, 20.0, 40.0, 26.0]), np.array([29.0, 19.5, 39.0, 25.5])
    found = Comparison.of(challenger, champion)
    assert (found.challenger, found.champion) == (29.0, 28.25)
    assert found.difference == pytest.approx(0.75)
    # The images differ by 20 dB, but the models on one image by 0.5 or 1 dB only.
    assert found.error == pytest.approx(np.std([1, 0.5, 1, 0.5], ddof=1) / 2)
    assert Comparison.of(champion, challenger).difference == pytest.approx(-0.75)


def test_a_single_image_has_no_standard_error() -> None:
    assert math.isnan(Comparison.of(np.array([30.0]), np.array([29.0])).error)


def test_of_scenes_without_clean_images_the_estimated_errors_are_compared() -> None:
    random = np.random.default_rng(0)
    champion = 0.001 * random.uniform(0.5, 2, 400)
    challenger = champion / 2 + 1e-4 * random.standard_normal(400)
    found = Comparison.of_errors(challenger, champion)
    assert found.champion == pytest.approx(-10 * math.log10(champion.mean()))
    assert found.difference == pytest.approx(-10 * math.log10(challenger.mean() / champion.mean()))
    # The standard error is the spread over other draws of scenes.
    draws = [random.integers(0, 400, 400) for _ in range(400)]
    spread = np.std([Comparison.of_errors(challenger[draw], champion[draw]).difference for draw in draws])
    assert found.error == pytest.approx(spread, rel=0.2)
    with pytest.raises(PipelineError, match="too small to be estimated"):
        Comparison.of_errors(-challenger, champion)


def test_a_version_that_a_classical_denoiser_beats_is_no_champion(cli: Cli, tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:150])
    # Better than its clipped input, and worse than non-local means.
    options = ("--epochs", 6, "--batch-size", 4, "--variance", 0.1, "--name", "small", "--register", "digits")
    done = cli("run", "--dataset", "digits", *options)
    assert done.code == 0, done
    assert cli("baselines", "--dataset", "digits", "--images", 8).code == 0
    scores = {"nlm": 40.0}
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (baseline,) = client.search_runs(["0"], f"tags.{names.MODEL} = 'nlm'")
    client.log_metric(baseline.info.run_id, names.noise_metric("psnr", "0.1"), scores["nlm"], step=1)
    done = cli("promote", "digits")
    assert (done.code, len(done.err.splitlines())) == (5, 1), done
    assert "classical denoiser nlm (8 images) 40.00 dB on the same images, more than 0.5 dB better" in done.err
    client.log_metric(baseline.info.run_id, names.noise_metric("psnr", "0.1"), 5.0, step=2)
    assert "is the first champion" in cli("promote", "digits", "--force").out
