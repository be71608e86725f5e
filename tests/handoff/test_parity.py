"""The parity gates on real files: a correct one passes, and every planted fault is caught."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import Trained
from onnx import numpy_helper
from torch import nn

from pipeline.data.images import Part
from pipeline.handoff.onnx_file import export_onnx
from pipeline.handoff.parity import Report, check
from pipeline.noise import make_noise
from pipeline.scoring.metrics import psnr
from pipeline.scoring.score import model_denoiser, score
from pipeline.tracking import names
from pipeline.training.checkpoint import Checkpoint

NOISE = make_noise("gaussian", "0.01")
METADATA = {"description": "a test", "input_range": "any", "output_range": "[0, 1]", "halo": "32"}


@dataclass(frozen=True)
class Exported:
    """A correct file, and what it is held against."""

    path: Path
    model: nn.Module
    test: Part
    psnr: float

    def check(self, path: Path, model: nn.Module | None = None) -> Report:
        return check(path, model or self.model, self.test, NOISE, {"psnr": self.psnr})


@pytest.fixture(scope="module")
def exported(trained: Trained, digits: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path = tmp_path_factory.mktemp("parity") / "model.onnx"
    artifacts = trained.cwd / "mlruns" / "0" / trained.run_id / "artifacts"
    cpu = torch.device("cpu")
    model = Checkpoint.load(artifacts / names.CHECKPOINT).load_model(cpu)
    export_onnx(model, 1, path, METADATA)
    test = Part(digits[-300:, np.newaxis])
    scores = score(test, NOISE, {"model": model_denoiser(model, cpu)}, {"psnr": psnr})
    return Exported(path, model, test, float(scores["model"]["psnr"].mean()))


def test_a_correct_file_passes_every_gate(exported: Exported) -> None:
    report = exported.check(exported.path)
    assert report.failures == []
    assert len(report.gates) > 200
    assert 0 < report.max_abs < 1e-5
    assert report.value == pytest.approx(exported.psnr, abs=1e-3)
    runtimes = {gate.where.split(":")[0] for gate in report.gates}
    levels = ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_ALL")
    assert {f"onnxruntime ORT_{level}" for level in levels} <= runtimes
    assert "onnx ReferenceEvaluator" in runtimes
    # A gate for NaN, and one for each batch, at the level that consumers use.
    wheres = {gate.where for gate in report.gates}
    for probe in ("NaN and infinity", *(f"{size} noisy test images" for size in (1, 2, 7, 64, 257))):
        assert f"onnxruntime ORT_ENABLE_ALL: {probe}" in wheres
    # Rounding at inputs of 255 exceeds the absolute limit in a correct file: only the float64 gate judges there.
    far = {gate.gate for gate in report.gates if gate.where.endswith("constant 255")}
    assert far == {"distance from float64"}


class Magnifier(nn.Module):
    """The identity, except that where the input is exactly 0 it adds the rounding error of a sum whose terms cancel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide, self.sum = nn.Conv2d(1, 512, 1), nn.Conv2d(512, 1, 1)
        with torch.no_grad():
            self.sum.weight.copy_(1000 * torch.randn_like(self.sum.weight))
            assert self.sum.bias is not None
            self.sum.bias.copy_(-self.sum(self.wide(torch.zeros(1, 1, 1, 1)))[0, :, 0, 0])

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        return noisy + torch.where(noisy == 0, 1e-2 * self.sum(self.wide(noisy)), torch.zeros_like(noisy))


def test_a_model_that_magnifies_rounding_on_made_up_images(digits: np.ndarray, tmp_path: Path) -> None:
    """Two correct runtimes differ there by more than MAX_ABS, but are no further from float64 than torch is."""
    model, test = Magnifier().eval(), Part(digits[:300, np.newaxis])
    export_onnx(model, 1, tmp_path / "model.onnx", METADATA)
    scores = score(test, NOISE, {"model": model_denoiser(model, torch.device("cpu"))}, {"psnr": psnr})
    report = check(tmp_path / "model.onnx", model, test, NOISE, {"psnr": float(scores["model"]["psnr"].mean())})
    assert report.failures == []
    assert report.max_abs < 1e-5  # the reported difference is that of the real images
    found = {gate.where: gate for gate in report.gates if gate.gate == "difference from torch"}
    assert any(float(gate.value) > 1e-5 for where, gate in found.items() if where.endswith("constant 0"))
    assert all(gate.limit == "at most 1e-05" for where, gate in found.items() if where.endswith("test images"))


def largest_weight_off(proto: onnx.ModelProto) -> None:
    """One weight, the largest of the first convolution, 0.1 % too large."""
    _change(proto, 0, lambda values: values.flat.__setitem__(np.abs(values).argmax(), _largest(values) * 1.001))


def rounded_to_fp16(proto: onnx.ModelProto) -> None:
    _change(proto, 1, lambda values: values.__setitem__(..., values.astype(np.float16)))


def swapped_channels(proto: onnx.ModelProto) -> None:
    _change(proto, 1, lambda values: values.__setitem__([0, 1], values[[1, 0]]))


def zeroed_weight(proto: onnx.ModelProto) -> None:
    _change(proto, 2, lambda values: values.flat.__setitem__(np.abs(values).argmax(), 0))


def clamped_input(proto: onnx.ModelProto) -> None:
    """Invisible to every input inside [0, 1]."""
    proto.graph.initializer.extend(
        [numpy_helper.from_array(np.float32(value), name) for name, value in (("low", -1.6), ("high", 2.6))]
    )
    for node in proto.graph.node:
        node.input[:] = ["clamped" if name == "noisy" and node.op_type == "Conv" else name for name in node.input]
    proto.graph.node.insert(0, onnx.helper.make_node("Clip", ["noisy", "low", "high"], ["clamped"]))


def static_batch(proto: onnx.ModelProto) -> None:
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 64


def newer_opset(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 19
    proto.ir_version = 9


def build_path_inside(proto: onnx.ModelProto) -> None:
    entry = proto.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.stack_trace", "/home/someone/model.py"


def custom_domain(proto: onnx.ModelProto) -> None:
    proto.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    proto.graph.node[0].domain = "com.example"


def output_renamed(proto: onnx.ModelProto) -> None:
    proto.graph.node[-1].output[0] = "result"
    proto.graph.output[0].name = "result"


def output_scaled_to_255(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(255), "scale"))
    proto.graph.node[-1].output[0] = "unit"
    proto.graph.node.append(onnx.helper.make_node("Mul", ["unit", "scale"], ["denoised"]))


@pytest.mark.parametrize(
    "plant",
    [
        largest_weight_off,
        rounded_to_fp16,
        swapped_channels,
        zeroed_weight,
        clamped_input,
        static_batch,
        newer_opset,
        build_path_inside,
        custom_domain,
        output_renamed,
        output_scaled_to_255,
    ],
)
def test_a_planted_fault_is_caught(
    plant: Callable[[onnx.ModelProto], None], exported: Exported, tmp_path: Path
) -> None:
    proto = onnx.load(exported.path)
    plant(proto)
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    assert exported.check(path).failures


def test_external_data_is_caught(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(onnx.load(exported.path), path, save_as_external_data=True, location="weights", size_threshold=0)
    assert {"tensors with external data"} <= {gate.gate for gate in exported.check(path).failures}


def test_a_stale_checkpoint_is_caught(exported: Exported, tmp_path: Path) -> None:
    """The weights of one step later, whose PSNR is almost the same."""
    stale = copy.deepcopy(exported.model).train()
    optimizer = torch.optim.Adam(stale.parameters(), lr=1e-4)
    images = exported.test.levels.to_tensor(torch.from_numpy(np.stack([*exported.test[:64].images])))
    nn.functional.mse_loss(stale(images + 0.1 * torch.randn(images.shape)), images).backward()
    optimizer.step()
    export_onnx(stale, 1, tmp_path / "model.onnx", METADATA)
    assert exported.check(tmp_path / "model.onnx").failures


def test_a_right_export_of_the_wrong_run_is_caught_by_its_psnr(exported: Exported) -> None:
    report = check(exported.path, exported.model, exported.test, NOISE, {"psnr": exported.psnr + 0.002})
    assert [gate.gate for gate in report.failures] == ["PSNR as logged by evaluate"]


def test_a_branch_on_a_batch_of_one_is_caught(exported: Exported, tmp_path: Path) -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = exported.model

        def forward(self, noisy: torch.Tensor) -> torch.Tensor:
            denoised = self.net(noisy)
            return denoised if noisy.shape[0] > 1 else denoised * 0.5

    branch = Branch().eval()
    export_onnx(branch, 1, tmp_path / "model.onnx", METADATA)
    failures = exported.check(tmp_path / "model.onnx", branch).failures
    assert any("1 noisy test images" in gate.where for gate in failures)
    assert not any("64 noisy test images" in gate.where for gate in failures if gate.gate == "difference from torch")


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_an_unreadable_file_is_reported_not_raised(content: bytes | None, exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(exported.path.read_bytes()[:-1000] if content is None else content)
    report = exported.check(path)
    assert report.failures
    assert np.isnan(report.value)
    report.to_markdown()


def _change(proto: onnx.ModelProto, index: int, change: Callable[[np.ndarray], None]) -> None:
    """Apply `change` to the weights of the `index`-th convolution, in place."""
    convolutions = [node for node in proto.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    name = convolutions[index].input[1]
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor).copy()
    before = values.copy()
    change(values)
    assert not np.array_equal(values, before), "nothing was planted"
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def _largest(values: np.ndarray) -> float:
    return float(values.flat[np.abs(values).argmax()])
