"""The vocabulary of the store: former stores hold it, so it must not change, and nothing spells it out elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
from pipeline.tracking import names
from pipeline.verification.folder import MODEL

PACKAGE = Path(pipeline.__file__).parent


def test_stores_of_former_versions_are_read() -> None:
    # Written out here, because a test that reads them from `names` could not fail.
    assert (names.DATASET, names.MODEL, names.NOISE, names.WEIGHTS) == ("dataset", "model", "noise", "weights")
    assert (names.DATASET_SHA256, names.TEST_IMAGES_SHA256) == ("dataset.sha256", "dataset.test.sha256")
    assert (names.PARITY, names.ONNX_SHA256, names.MODEL_ID) == ("parity", "model.onnx.sha256", "model_id")
    assert (names.EVALUATION, names.EVALUATION_SHA256) == ("test.json", "test.sha256")
    assert (names.TRIAL, names.PARENT, names.TEST_IMAGES) == ("trial", "mlflow.parentRunId", "test.images")
    assert (names.INTERRUPTED, names.RESUMABLE) == ("interrupted", "resumable")
    assert (names.HOST, names.FOLDER) == ("host", "folder")
    assert [*names.FORMER_LOSSES.values()] == ["train/loss", "validation/loss", "best/validation_loss"]
    assert names.TRAIN_SECONDS == "train/seconds"
    assert (names.MILLISECONDS, names.PARAMETERS) == ("onnxruntime/ms_per_image", "parameters")
    assert (names.CONFIG, names.CHECKPOINT, names.SAMPLES) == ("config.json", "checkpoints/best.pt", "samples.npz")
    assert names.noise_metric("psnr", "0.01") == "test/psnr/0.01"
    assert names.fingerprint_tag("train") == "fingerprint.train"
    assert names.fingerprint_file("train") == "fingerprints/train.json"
    assert names.choice_tag("a") == "trial.a"


def test_tracking_and_the_standalone_check_agree_on_the_file() -> None:
    assert names.ONNX == MODEL


@pytest.mark.parametrize(
    ("label", "tag"),
    [
        ("0.01", "psnr.0.01"),
        ("0.001:0.1 clipped", "psnr.0.001-0.1-clipped"),
        ("poisson:peak=30", "psnr.poisson-peak-30"),
    ],
)
def test_tags_of_versions_hold_only_what_mlflow_allows(label: str, tag: str) -> None:
    assert names.version_tag("psnr", label) == tag


def test_metric_names_hold_only_what_mlflow_allows() -> None:
    assert names.metric_text("lr=0.02, size:s") == "lr-0.02- size-s"


@pytest.mark.parametrize(
    ("params", "known", "name"),
    [
        ({}, (), "train/mse"),  # what runs of the first versions minimised
        ({"loss": "rmse", "target": "clean"}, (), "train/rmse"),
        ({"loss": "psnr", "target": "clean"}, (), "train/minus_psnr"),
        ({"loss": "mse", "target": "sure"}, (), "train/mse_sure"),
        ({"loss": "mse"}, ("train/loss",), "train/loss"),  # of a run of a former version
        ({"loss": "mse"}, ("train/loss", "train/mse"), "train/mse"),
    ],
)
def test_the_loss_says_in_its_name_what_is_minimised(params: dict[str, str], known: tuple[str, ...], name: str) -> None:
    assert names.loss_metric(names.TRAIN, params, known) == name


def test_names_import_nothing_slow() -> None:
    script = "import sys, pipeline.tracking.names as n; print(*{'mlflow', 'torch', 'numpy', 'onnx'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "\n"


def test_no_module_spells_a_name_out() -> None:
    """Only those that cannot be mistaken for a word: names with a slash, and names with a dot."""
    texts = {
        text for text in vars(names).values() if isinstance(text, str) and re.fullmatch(r"[a-z]\w*[/.][\w./]+", text)
    }
    texts -= {names.ONNX, names.REPORT, names.COMPARISON_PAGE}  # files in hand-off folders and templates, too
    assert len(texts) > 20
    others = [path for path in PACKAGE.rglob("*.py") if path != Path(names.__file__)]
    found = {path: text for path in others for text in texts if f'"{text}"' in path.read_text()}
    assert found == {}
