"""Proving and packing a model without a run: nothing here has a tracking store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from test_card import describe

from pipeline.data.images import Part
from pipeline.data.prepared import PreparedData
from pipeline.handoff.folder import make_examples, pack
from pipeline.handoff.proof import Proof, prove
from pipeline.handoff.verify import verify
from pipeline.models import build_model
from pipeline.noise import make_noise
from pipeline.scoring.metrics import psnr
from pipeline.scoring.score import model_denoiser, score

NOISE = make_noise("gaussian", "0.01")


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    """A small network with random weights."""
    torch.manual_seed(0)
    return build_model("dncnn:depth=3,width=4").eval()


@pytest.fixture(scope="module")
def data(digits: np.ndarray) -> PreparedData:
    images = digits[:, np.newaxis]
    return PreparedData(Part(images[:300]), Part(images[300:400]), Part(images[-100:]), {"digest": "d" * 64})


@pytest.fixture(scope="module")
def logged_psnr(model: torch.nn.Module, data: PreparedData) -> float:
    scores = score(data.test, NOISE, {"model": model_denoiser(model, torch.device("cpu"))}, {"psnr": psnr})
    return float(scores["model"]["psnr"].mean())


def test_a_packed_folder_verifies(
    model: torch.nn.Module, data: PreparedData, logged_psnr: float, tmp_path: Path
) -> None:
    description = describe()
    proof = prove(tmp_path, model, description, data, {"psnr": logged_psnr}, ["uint8"])
    assert proof.report.failures == []
    assert proof.milliseconds > 0
    assert {gate.where.split(":")[0] for gate in proof.report.gates} >= {"model.onnx", "model_uint8.onnx"}
    examples = make_examples(model, data.test, NOISE)
    pack(tmp_path, description, proof, examples)
    assert [gate for gate in verify(tmp_path, ["onnxruntime"]) if not gate.passed] == []

    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [entry["file"] for entry in manifest["models"]] == ["model.onnx", "model_uint8.onnx"]
    assert [entry["input"]["dtype"] for entry in manifest["models"]] == ["float32", "uint8"]
    assert manifest["models"][0]["test_psnr_db"] == {"0.01": pytest.approx(logged_psnr, abs=1e-3)}
    assert manifest["parity"]["gates"] == len(proof.report.gates)
    assert manifest["samples"] == len(list((tmp_path / "samples").glob("*_noisy.png"))) == 10
    with Image.open(tmp_path / "samples" / "3_clean.png") as image:
        assert np.array_equal(np.asarray(image), data.test.images[3][0])
    golden = onnx.load_tensor(str(tmp_path / "test_data_set_uint8" / "output_0.pb"))
    assert np.array_equal(onnx.numpy_helper.to_array(golden), examples.golden_output_8_bits)
    assert (
        "| `model_uint8.onnx` | pixels from 0 to 255 in and out | uint8 |" in (tmp_path / "MODEL_CARD.md").read_text()
    )


def test_a_float_file_that_fails_has_no_variants(
    model: torch.nn.Module, data: PreparedData, logged_psnr: float, tmp_path: Path
) -> None:
    proof: Proof = prove(tmp_path, model, describe(), data, {"psnr": logged_psnr + 0.01}, ["uint8"])
    assert [gate.gate for gate in proof.report.failures] == ["PSNR as logged by evaluate"]
    assert proof.variants == ()
    assert np.isnan(proof.milliseconds)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_golden_images_are_small_however_large_the_images_are(model: torch.nn.Module) -> None:
    large = Part(np.zeros((3, 1, 512, 512), np.uint8))
    examples = make_examples(model, large, NOISE)
    assert examples.clean is not None
    assert examples.clean.shape == examples.noisy.shape == examples.denoised.shape
    assert examples.golden_input.shape == (7, 1, 64, 64)
    assert examples.golden_output_8_bits.dtype == np.uint8
