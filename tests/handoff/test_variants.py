"""The other forms of the file: what they compute, and that their gates catch faults."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import Cli, Trained
from onnx import numpy_helper
from PIL import Image

from pipeline.data.images import Part, as_images
from pipeline.handoff.variants import VARIANTS, Original, make_variants
from pipeline.noise import make_noise
from pipeline.tracking import names
from pipeline.training.checkpoint import Checkpoint


@pytest.fixture
def original(trained: Trained, digits: np.ndarray, tmp_path: Path) -> Original:
    (tmp_path / "model.onnx").write_bytes((trained.handoff / "model.onnx").read_bytes())
    artifacts = trained.cwd / "mlruns" / "0" / trained.run_id / "artifacts"
    model = Checkpoint.load(artifacts / names.CHECKPOINT).load_model(torch.device("cpu"))
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    noise = make_noise("gaussian", "0.01")
    train, test = Part(digits[:300, np.newaxis]), Part(digits[-300:, np.newaxis])
    return Original(tmp_path / "model.onnx", model, 1, metadata, train, test, noise, {"0.01": noise})


def test_every_variant_is_in_the_folder_and_tells_what_it_costs(trained: Trained) -> None:
    manifest = json.loads((trained.handoff / "manifest.json").read_text())
    card = (trained.handoff / "MODEL_CARD.md").read_text()
    models = {model["variant"]: model for model in manifest["models"]}
    assert list(models) == ["float32", *VARIANTS]
    for name, model in models.items():
        path = trained.handoff / model["file"]
        assert model["bytes"] == path.stat().st_size
        assert f"| `{model['file']}` |" in card
        if name != "float32":
            assert model["psnr_lost_db"]["0.01"] <= 0.1
            assert model["images_per_second"].endswith("times as many as model.onnx, on one thread")
            facts = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
            assert facts["variant"] == name
            assert facts["weights_sha256"] == manifest["model"]["weights_sha256"]
    assert models["uint8"]["input"] | {"range": ""} == {
        "name": "noisy",
        "dtype": "uint8",
        "shape": ["batch", 1, "height", "width"],
        "range": "",
    }


def test_the_uint8_file_is_the_float_file_in_8_bits(trained: Trained) -> None:
    with Image.open(trained.handoff / "samples" / "0_noisy.png") as image:
        pixels = np.asarray(image)[np.newaxis, np.newaxis]
    found = onnxruntime.InferenceSession(trained.handoff / "model_uint8.onnx").run(None, {"noisy": pixels})[0]
    noisy = pixels.astype(np.float32) / 255
    floats = onnxruntime.InferenceSession(trained.handoff / "model.onnx").run(None, {"noisy": noisy})[0]
    assert found.dtype == np.uint8
    assert np.array_equal(found, (torch.from_numpy(floats) * 255).round().to(torch.uint8).numpy())


def _truncate_instead_of_round(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        if node.op_type == "Round":
            node.op_type = "Floor"


def _divide_by_256(proto: onnx.ModelProto) -> None:
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.size == 1 and values == 255:
            tensor.CopyFrom(numpy_helper.from_array(values + np.float32(1), tensor.name))
            return
    raise AssertionError("no 255 in the file")


def _halve_a_weight(proto: onnx.ModelProto) -> None:
    tensor = max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((values / 2).astype(values.dtype), tensor.name))


def test_right_variants_pass(original: Original) -> None:
    made = make_variants(list(VARIANTS), original)
    assert [file.name for file in made] == list(VARIANTS)
    assert [gate for file in made for gate in file.gates if not gate.passed] == []
    assert all(len(file.gates) > 5 and file.speed > 0 and file.loss["0.01"] < 0.1 for file in made)


@pytest.mark.parametrize("sizes", [[(64, 64)], [(20, 30), (100, 64), (70, 70)]])
def test_int8_files_are_made_from_images_of_any_sizes(
    sizes: list[tuple[int, int]], original: Original, digits: np.ndarray
) -> None:
    cycled = zip(itertools.cycle(sizes), digits[:260], strict=False)
    images = [np.tile(digit, (4, 4))[np.newaxis, :height, :width] for (height, width), digit in cycled]
    (made,) = make_variants(["int8"], replace(original, train=Part(as_images(images))))
    assert made.loss["0.01"] < 0.1


@pytest.mark.parametrize(
    ("name", "fault", "gate"),
    [
        ("uint8", _truncate_instead_of_round, "pixels that differ from the float file rounded by torch"),
        ("uint8", _divide_by_256, "pixels that differ from the float file rounded by torch"),
        ("int8", _halve_a_weight, "PSNR lost"),
        ("fp16", _halve_a_weight, "PSNR lost"),
    ],
)
def test_a_planted_fault_fails_its_gate(
    name: str, fault: Callable[[onnx.ModelProto], None], gate: str, original: Original, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(original: Original, path: Path, right: Callable[[Original, Path], None] = VARIANTS[name].write) -> None:
        right(original, path)
        proto = onnx.load(path)
        fault(proto)
        onnx.save(proto, path)

    monkeypatch.setitem(VARIANTS, name, replace(VARIANTS[name], write=write))
    assert gate in {found.gate for found in make_variants([name], original)[0].gates if not found.passed}


def test_an_unknown_variant_is_a_usage_error(cli: Cli) -> None:
    done = cli("export", "--variant", "uint8,int16")
    assert done.code == 2
    assert "'int16' is not known; allowed: uint8, int8, fp16; did you mean 'int8'?" in done.err
    done = cli("export", "--help")
    assert ", ".join(VARIANTS) in done.out
