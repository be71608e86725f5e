"""What an evaluation computes: scores, worst images, classes, the curve, images to look at. No MLflow, no CLI."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import CURVE_VARIANCES, Config
from pipeline.data.images import Images, Part
from pipeline.data.prepared import PreparedData
from pipeline.noise import make_noise
from pipeline.scoring.evaluation import Evaluation, evaluate_denoiser, reference_noises, score_other_data
from pipeline.scoring.metrics import METRICS, psnr
from pipeline.scoring.score import clipped, noisy_copy
from pipeline.tracking.fingerprint import fingerprint

COUNT = 30


def halve(noisy: torch.Tensor) -> torch.Tensor:
    """Stands for a model: its result differs from the noisy and from the clipped image."""
    return noisy.clamp(0, 1) / 2


def evaluated(test: Images, labels: np.ndarray | None = None, **options: str) -> Evaluation:
    config = Config(**{"dataset": "a-folder", "noise": "speckle", **options})  # type: ignore[arg-type]
    part = Part(test)
    data = PreparedData(part, part, part, manifest={}, test_labels=labels)
    return evaluate_denoiser(halve, config, data, [*reference_noises(config), config.training_noise])


@pytest.fixture(scope="module")
def found(digits: np.ndarray) -> Evaluation:
    return evaluated(digits[:COUNT, np.newaxis], np.arange(COUNT) % 3)


def test_every_noise_has_a_mean_of_every_metric_for_every_denoiser(found: Evaluation) -> None:
    own = make_noise("speckle").label
    assert set(found.results) == set(found.samples) == {"0.001", "0.01", "0.1", own}
    for summary in found.results.values():
        assert set(summary) == {"noisy", "clipped", "denoised"}
        for values in summary.values():
            assert set(values) == {"mse", "psnr", "psnr_pooled", "ssim"}
    assert found.results["0.01"]["noisy"]["psnr"] == pytest.approx(20, abs=0.2)
    assert found.results["0.01"]["clipped"]["psnr"] > found.results["0.01"]["noisy"]["psnr"] + 2
    assert found.results["0.01"]["denoised"]["psnr"] < found.results["0.01"]["noisy"]["psnr"]


def test_the_worst_images_are_the_ones_with_the_lowest_psnr(found: Evaluation, digits: np.ndarray) -> None:
    psnrs = []
    for index in range(COUNT):
        clean, noisy = noisy_copy(Part(digits[:COUNT, np.newaxis]), index, make_noise("speckle"))
        assert clean is not None
        psnrs.append(psnr(halve(noisy), clean).item())
    assert found.worst == np.argsort(psnrs)[:10].tolist()
    clean, _, denoised = found.worst_sample
    assert clean is not None
    assert psnr(denoised, clean).tolist() == pytest.approx(sorted(psnrs)[:10])


def test_the_samples_are_the_first_images_the_same_at_every_noise(found: Evaluation, digits: np.ndarray) -> None:
    for label, (clean, noisy, denoised) in found.samples.items():
        assert clean is not None
        assert torch.equal(clean, torch.from_numpy(digits[:8, np.newaxis]).float() / 255), label
        assert torch.equal(denoised, halve(noisy))
    assert not torch.equal(found.samples["0.01"][1], found.samples["0.1"][1])


def test_classes_have_their_own_psnr(found: Evaluation) -> None:
    assert found.by_class is not None
    for label, classes in found.by_class.items():
        assert list(classes) == ["0", "1", "2"]
        # The classes are equally large, so that the mean of their means is the mean over all images.
        assert np.mean([*classes.values()]) == pytest.approx(found.results[label]["denoised"]["psnr"])


def test_the_curve_goes_from_a_clean_image_to_far_out_of_range(found: Evaluation) -> None:
    assert found.curve is not None
    assert found.curve["images"] == COUNT
    assert found.curve["variances"] == list(CURVE_VARIANCES)
    assert found.curve["psnr"]["noisy"][0] == 100
    for place, variance in enumerate(CURVE_VARIANCES[1:], 1):
        assert found.curve["psnr"]["noisy"][place] == pytest.approx(-10 * np.log10(variance), abs=0.2)


def test_the_report_is_json_and_leaves_out_what_is_not_known(found: Evaluation, digits: np.ndarray) -> None:
    report = json.loads(json.dumps(found.report()))
    assert report["results"] == found.results
    assert set(report) == {"protocol", "results", "worst", "curve", "by_class", "other_data"}
    assert "by_class" not in evaluated(digits[:3, np.newaxis]).report()


def test_digits_of_mnist_are_read_and_others_are_not(digits: np.ndarray) -> None:
    labels = np.array([7, 2, 1, 0, 4])
    accuracies = evaluated(digits[:5, np.newaxis], labels, dataset="mnist").results["0.001"]
    assert [values["accuracy"] for values in accuracies.values()] == [1, 1, 1]
    wrong = evaluated(digits[:5, np.newaxis], labels[::-1], dataset="mnist").results["0.001"]
    assert wrong["denoised"]["accuracy"] == pytest.approx(0.2)  # the middle one


def test_images_of_several_sizes_are_shown_in_one(digits: np.ndarray) -> None:
    wall = np.tile(digits[0], (6, 6))[np.newaxis]
    images = [wall[:, : 140 + 3 * index, : 150 - index] for index in range(4)]
    clean, noisy, _ = evaluated(images).samples["0.01"]
    assert clean is not None
    assert clean.shape == noisy.shape == (4, 1, 128, 128)
    assert torch.equal(clean[0, 0], torch.from_numpy(wall[0, 6:134, 11:139].copy()).float() / 255)


def test_a_model_of_digits_is_scored_on_fashion_where_it_is_found(tmp_path: Path, digits: np.ndarray) -> None:
    config = Config(data_dir=str(tmp_path))
    noise = config.training_noise
    assert score_other_data(config, {"clipped": clipped}, noise) == {}
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        content = struct.pack(">4B3I", 0, 0, 8, 3, *digits[:20].shape) + digits[:20].tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(content)
    found = score_other_data(config, {"clipped": clipped}, noise)
    assert found["fashion-mnist"]["clipped"]["psnr"] == pytest.approx(22.7, abs=0.5)
    assert score_other_data(Config(data_dir=str(tmp_path), dataset="kmnist"), {"clipped": clipped}, noise) == {}


@pytest.mark.parametrize("module", ["pipeline.scoring.evaluation", "pipeline.scoring.classical"])
def test_computing_needs_nothing_that_tracks_or_draws(module: str) -> None:
    parts = fingerprint(module, packages=())  # every module that it imports, directly or not
    assert "pipeline/scoring/score.py" in parts
    above = ("pipeline/tracking/", "pipeline/reports/", "pipeline/stages/")
    assert [name for name in parts if name.startswith(above)] == []


def test_a_metric_is_one_function_and_one_entry(digits: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "mae", lambda images, clean: (images - clean).abs().mean(dim=(1, 2, 3)))
    for summary in evaluated(digits[:3, np.newaxis]).results.values():
        assert all(0 < values["mae"] < 1 for values in summary.values())
