"""An exported file gives its weights back, or says why it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.handoff.onnx_file import export_onnx
from pipeline.handoff.onnx_weights import read_onnx
from pipeline.models import build_model

FACTS = {"description": "x", "input_range": "x", "output_range": "x", "mlflow_run_id": "0" * 32}


@pytest.mark.parametrize("spec", ["autoencoder", "unet:width=4", "resunet:width=4", "resunet:width=4,noise-map=true"])
def test_the_file_of_a_model_gives_its_weights_back(spec: str, tmp_path: Path) -> None:
    model = randomised(spec)
    export_onnx(model, 1, tmp_path / "model.onnx", {**FACTS, "model": spec})
    checkpoint, run_id = read_onnx(tmp_path / "model.onnx", spec, "")
    assert run_id == "0" * 32
    wanted = model.state_dict()
    assert checkpoint.weights.keys() == wanted.keys()
    for name, value in checkpoint.weights.items():
        assert name.endswith("num_batches_tracked") or torch.equal(value, wanted[name]), name
    with pytest.raises(PipelineError, match="it holds "):
        read_onnx(tmp_path / "model.onnx", "resunet:width=8", "")


def test_what_cannot_be_restored_is_refused(tmp_path: Path) -> None:
    spec = "dncnn:depth=3,width=4"
    export_onnx(randomised(spec), 1, tmp_path / "model.onnx", {**FACTS, "model": spec})
    with pytest.raises(PipelineError, match=f"BatchNorm is folded .* give the run: {'0' * 32}"):
        read_onnx(tmp_path / "model.onnx", spec, "")
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(PipelineError, match="cannot be opened"):
        read_onnx(tmp_path / "model.onnx", spec, "")


def randomised(spec: str) -> torch.nn.Module:
    """A model whose weights all differ, as after training: equal ones are stored once."""
    torch.manual_seed(0)
    model = build_model(spec)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.add_(0.1 * torch.rand(value.shape))
    return model
