"""Proving and packing a model without a run: nothing here has a tracking store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import write_sums
from PIL import Image
from test_card import describe

from pipeline.data.images import Levels, Part
from pipeline.data.prepared import PreparedData
from pipeline.handoff.folder import FILES, make_examples, pack
from pipeline.handoff.parity import check
from pipeline.handoff.proof import Proof, check_packed, prove
from pipeline.models import build_model
from pipeline.noise import make_noise
from pipeline.scoring.evaluation import score_noise
from pipeline.scoring.metrics import psnr
from pipeline.scoring.score import clipped, identity, model_denoiser, score
from pipeline.verification.folder import verify
from pipeline.verification.gates import all_passed

NOISE = make_noise("gaussian", "0.01")
DESCRIPTION = describe()


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


@pytest.fixture(scope="module")
def packed(
    model: torch.nn.Module, data: PreparedData, logged_psnr: float, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Proof]:
    folder = tmp_path_factory.mktemp("packed")
    proof = prove(folder, model, DESCRIPTION, data, {"psnr": logged_psnr}, ["uint8"])
    pack(folder, DESCRIPTION, proof, make_examples(model, data.test, NOISE))
    return folder, proof


def test_a_packed_folder_verifies(
    model: torch.nn.Module, data: PreparedData, logged_psnr: float, packed: tuple[Path, Proof]
) -> None:
    tmp_path, proof = packed
    assert proof.report.failures == []
    assert proof.milliseconds > 0
    assert {gate.where.split(":")[0] for gate in proof.report.gates} >= {"model.onnx", "model_uint8.onnx"}
    examples = make_examples(model, data.test, NOISE)
    assert all_passed(check_packed(tmp_path, proof))

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


def _edit_card(folder: Path) -> None:
    (folder / "MODEL_CARD.md").write_text("another")


def _lose_script(folder: Path) -> None:
    (folder / "verify.py").unlink()
    write_sums(folder)


def _swap_golden(folder: Path) -> None:
    one, other = (folder / f"test_data_set_{number}" / "output_0.pb" for number in (1, 3))
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    write_sums(folder)


def _write_again(folder: Path) -> None:
    proto = onnx.load(folder / "model.onnx")
    proto.producer_name = "another"
    onnx.save(proto, folder / "model.onnx")


def test_no_compiled_script_is_packed(packed: tuple[Path, Proof]) -> None:
    assert list(FILES.rglob("*.pyc")), "conftest compiles them, as pip does"
    assert not list(packed[0].rglob("*.pyc"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_edit_card, "files that do not match their checksums"),
        (_lose_script, "can't open file"),
        (_swap_golden, "type and shape (onnxruntime: model.onnx: 2 golden images of 31x45)"),
        (_write_again, "model.onnx"),
    ],
)
def test_what_happens_to_a_folder_while_it_is_packed_is_found(
    damage: Callable[[Path], None],
    said: str,
    model: torch.nn.Module,
    data: PreparedData,
    packed: tuple[Path, Proof],
    tmp_path: Path,
) -> None:
    folder = Path(shutil.copytree(packed[0], tmp_path / "packed"))
    damage(folder)
    failures = [gate for gate in check_packed(folder, packed[1]) if not gate.passed]
    assert said in failures[0].value


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


def recorded(channels: int, dtype: str, levels: Levels, *, bursts: bool) -> Part:
    """Captures without clean images, with faint noise."""
    random = np.random.default_rng(0)
    scenes = np.repeat(np.arange(12), 2 if bursts else 1)
    floats = random.uniform(0.2, 0.8, (12, channels, 24, 24))[scenes] + 0.05 * random.standard_normal(
        (len(scenes), channels, 24, 24)
    )
    return Part(None, levels.from_floats(floats.astype(np.float32), np.dtype(dtype)), scenes, levels)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (recorded(1, "uint16", Levels(4095), bursts=True), "12 bits in 16: 4,095 is white, 0 is black"),
        (recorded(5, "uint16", Levels(65535), bursts=False), "uint16: 65,535 is white, 0 is black"),
        (recorded(2, "float32", Levels(2.5, -0.5), bursts=False), "float32: 2.5 is white, -0.5 is black"),
    ],
)
def test_recorded_noise_of_any_depth_and_channels_is_proved_and_packed(part: Part, said: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    channels = part.images[0].shape[0]
    model = build_model("dncnn:depth=3,width=4", channels=channels).eval()
    noise = make_noise("recorded")
    denoise = model_denoiser(model, torch.device("cpu"))
    summary = score_noise(part, noise, {"noisy": identity, "clipped": clipped, "denoised": denoise}).summary
    facts: dict[str, Any] = {
        "levels": part.levels,
        "pixel_type": str(part.images[0].dtype),
        "scores": {"recorded": summary},
    }
    description = replace(describe(noise="recorded", channels=channels), **facts)
    data = PreparedData(part, part, part, {"digest": "d" * 64})
    proof = prove(tmp_path, model, description, data, summary["denoised"], ["int8", "fp16"])
    assert proof.report.failures == []
    assert [made.fidelity > 40 for made in proof.variants] == [True, True]
    pack(tmp_path, description, proof, make_examples(model, part, noise))
    assert [gate for gate in verify(tmp_path, ["onnxruntime"]) if not gate.passed] == []

    assert not list((tmp_path / "samples").glob("*clean*"))
    with Image.open(tmp_path / "samples" / "0_noisy.png") as image:
        assert (image.mode, image.size) == ("L", (24, 24))
    props = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert (float(props["white"]), float(props["black"])) == (part.levels.white, part.levels.black)
    assert props["pixel_type"] == str(part.images[0].dtype)
    assert "Image.BitmapPixelFormat" not in props
    assert "test_psnr_db" not in props
    assert said in (tmp_path / "MODEL_CARD.md").read_text()
    # A file that is another model is found without a PSNR, too.
    wrong = {metric: value * 1.01 for metric, value in summary["denoised"].items()}
    report = check(tmp_path / "model.onnx", model, part, noise, wrong)
    assert [gate.gate.endswith("as logged by evaluate") for gate in report.failures] == [True]
