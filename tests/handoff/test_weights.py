"""An exported file has the weights of the checkpoint, bit for bit or folded, and says where it first differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from pipeline.handoff.first_difference import first_difference
from pipeline.handoff.onnx_file import export_onnx
from pipeline.handoff.weights import check_weights
from pipeline.models import build_model

FACTS = {"description": "x", "input_range": "x", "output_range": "x"}


class Folding(nn.Module):
    """BatchNorm behind convolutions of both kinds, and weights that the exporter reshapes and transposes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.second, self.other_norm = nn.ConvTranspose2d(4, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6)
        self.bend, self.mix, self.last = nn.PReLU(6), nn.Linear(6, 6), nn.Conv2d(6, 1, 1)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        features = self.other_norm(self.second(torch.relu(self.norm(self.first(noisy)))))
        features = self.mix(self.bend(features).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return torch.sigmoid(self.last(features))


def settled(model: nn.Module) -> nn.Module:
    """With weights and statistics that differ from one another."""
    torch.manual_seed(0)
    with torch.no_grad():
        for values in model.parameters():
            values.add_(0.1 * torch.randn_like(values))
        for _ in range(3):
            model.train()(torch.rand(4, 1, 20, 20))
    return model.eval()


@pytest.fixture(scope="module")
def folding() -> nn.Module:
    return settled(Folding())


def failures(path: Path, model: nn.Module) -> list[str]:
    return [f"{gate.gate}: {gate.value}" for gate in check_weights(path, model) if not gate.passed]


@pytest.mark.parametrize(
    "spec", ["autoencoder", "unet:width=4", "resunet:width=4,noise-map=true", "dncnn:depth=4,width=4"]
)
def test_the_file_of_a_model_has_its_weights(spec: str, tmp_path: Path) -> None:
    model = build_model(spec).eval()
    export_onnx(model, 1, tmp_path / "fresh.onnx", FACTS)  # where many weights are equal, which are stored once
    assert failures(tmp_path / "fresh.onnx", model) == []
    model = settled(model)
    assert failures(tmp_path / "fresh.onnx", model) != []
    export_onnx(model, 1, tmp_path / "settled.onnx", FACTS)
    assert failures(tmp_path / "settled.onnx", model) == []


def nudged(path: Path, name: str, change: Callable[[np.ndarray], np.ndarray], to: Path) -> Path:
    proto = onnx.load(path)
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] = change(values.flat[0])
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(proto, to)
    return to


def test_what_was_folded_is_what_folding_gives(folding: nn.Module, tmp_path: Path) -> None:
    export_onnx(folding, 1, tmp_path / "model.onnx", FACTS)
    assert failures(tmp_path / "model.onnx", folding) == []
    proto = onnx.load(tmp_path / "model.onnx")
    assert not any(node.op_type == "BatchNormalization" for node in proto.graph.node)
    floats = [tensor.name for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    assert len(floats) >= 9
    for name in floats:
        path = nudged(
            tmp_path / "model.onnx", name, lambda value: value * np.float32(1.00001), tmp_path / "nudged.onnx"
        )
        assert failures(path, folding), name


def test_a_last_bit_is_seen(tmp_path: Path) -> None:
    model = settled(build_model("resunet:width=4"))
    export_onnx(model, 1, tmp_path / "model.onnx", FACTS)
    path = nudged(
        tmp_path / "model.onnx",
        "middle.0.first.weight",
        lambda value: np.nextafter(value, np.float32(9)),
        tmp_path / "nudged.onnx",
    )
    assert failures(path, model) == ["weights that differ from the checkpoint: middle.0.first.weight"]


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("BatchNormalization", "epsilon", 1.1e-5),
        ("Conv", "strides", [1, 1]),
        ("Conv", "pads", [2, 2, 0, 0]),
        ("Conv", "dilations", [2, 2]),
        ("ConvTranspose", "strides", [1, 1]),
    ],
)
def test_an_attribute_of_another_layer_is_seen(kind: str, name: str, value: object, tmp_path: Path) -> None:
    model = settled(build_model("autoencoder"))
    export_onnx(model, 1, tmp_path / "model.onnx", FACTS)
    proto = onnx.load(tmp_path / "model.onnx")
    node = [node for node in proto.graph.node if node.op_type == kind][1]
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])
    onnx.save(proto, tmp_path / "model.onnx")
    (said,) = failures(tmp_path / "model.onnx", model)
    assert said.startswith("nodes whose attributes are not those of the layer: ")


def test_values_that_no_weight_explains(folding: nn.Module, tmp_path: Path) -> None:
    export_onnx(folding, 1, tmp_path / "model.onnx", FACTS)
    proto = onnx.load(tmp_path / "model.onnx")
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(100, np.float32), "more"))
    onnx.save(proto, tmp_path / "model.onnx")
    assert failures(tmp_path / "model.onnx", folding) == ["values that the checkpoint does not have: 100"]


def test_the_first_node_that_differs_is_named(tmp_path: Path) -> None:
    model, images = settled(build_model("autoencoder")), np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
    export_onnx(model, 1, tmp_path / "model.onnx", FACTS)
    assert first_difference(tmp_path / "model.onnx", model, images) == ""
    proto = onnx.load(tmp_path / "model.onnx")
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    weight = convolutions[1].input[1]
    path = nudged(tmp_path / "model.onnx", weight, lambda value: value + 1, tmp_path / "nudged.onnx")
    said = first_difference(path, model, images)
    assert said.startswith(f"node Conv '{convolutions[1].output[0]}' ({weight}")
    assert "its output differs from torch by " in said
    next(node for node in proto.graph.node if node.op_type == "Sigmoid").op_type = "Tanh"
    onnx.save(proto, tmp_path / "tanh.onnx")
    assert first_difference(tmp_path / "tanh.onnx", model, images).startswith("node Tanh '")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    assert first_difference(tmp_path / "broken.onnx", model, images).startswith("unknown: the file cannot be compared")
