"""A model from elsewhere that would never answer, or fill the memory, is refused before it is opened."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import PROJECT, Cli
from mlflow.exceptions import MlflowException
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from small_models import METADATA, write_mean

from pipeline.denoising import trial
from pipeline.denoising.model import open_model
from pipeline.denoising.trial import check_model
from pipeline.errors import ArgumentError, PipelineError
from pipeline.handoff.mlflow_loader import _load_pyfunc
from pipeline.handoff.onnx_weights import read_onnx

Nodes = list[onnx.NodeProto]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def loop() -> Nodes:
    """That goes round 2^62 times."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["goes"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    return [helper.make_node("Loop", ["many", "true", "noisy"], ["denoised"], body=body)]


def long_chain() -> Nodes:
    names = ["noisy", *(str(number) for number in range(200_000)), "denoised"]
    return [helper.make_node("Relu", [name], [after]) for name, after in pairwise(names)]


def filled() -> Nodes:
    """3 GB of zeros."""
    return [
        helper.make_node("ConstantOfShape", ["large"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["noisy", "sum"], ["denoised"]),
    ]


def slow() -> Nodes:
    """Of allowed operators, but for minutes."""
    nodes = [helper.make_node("Expand", ["one", "wide"], ["0"])]
    nodes += [helper.make_node("Erf", [str(number)], [str(number + 1)]) for number in range(2000)]
    nodes.append(helper.make_node("ReduceMax", ["2000"], ["most"], keepdims=0))
    return [*nodes, helper.make_node("Add", ["noisy", "most"], ["denoised"])]


def slow_on_large() -> Nodes:
    """That answers at once on a tiny image."""
    names = ["noisy", *map(str, range(2000)), "denoised"]
    return [helper.make_node("Erf", [name], [after]) for name, after in pairwise(names)]


def write(path: Path, nodes: Nodes) -> Path:
    tensors = {
        "many": np.array(2**62),
        "true": np.array(True),
        "large": np.array([800_000_000]),
        "one": np.ones((1, 1), np.float32),
        "wide": np.array([4096, 4096]),
    }
    used = {name for node in nodes for name in node.input}
    images = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, "h", "w"])] for name in ("noisy", "denoised")
    ]
    kept = [numpy_helper.from_array(value, name) for name, value in tensors.items() if name in used]
    graph = helper.make_graph(nodes, "hostile", *images, kept)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    for key, value in METADATA.items():
        proto.metadata_props.add(key=key, value=value)
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (loop, "operators that are not on the list of those allowed: Loop"),
        (long_chain, "nodes: 200,001"),
        (filled, "operators that are not on the list of those allowed: ConstantOfShape"),
        (slow, "it gave no answer on an image of 32x32 pixels in 2 s"),
    ],
)
def test_what_would_never_answer(
    tmp_path: Path, nodes: Callable[[], Nodes], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "SECONDS", 2.0)
    path = write(tmp_path / "model.onnx", nodes())
    with pytest.raises(ArgumentError) as caught:
        open_model(path)
    assert str(caught.value).startswith(f"--model: {path} cannot be opened: ")
    assert reason in str(caught.value)
    assert not (tmp_path / "cache" / "denoise-pipeline").exists()
    if nodes is not slow:
        with pytest.raises(PipelineError, match="cannot be opened"):
            read_onnx(path, "unet", "")


def test_what_answers_on_a_tiny_image_only_is_stopped_on_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "model.onnx", slow_on_large())
    model = open_model(path)
    monkeypatch.setattr("pipeline.denoising.model._SECONDS", 0.01)
    pixels = np.zeros((1, 1, 472, 472), np.uint8)  # one tile
    with pytest.raises(PipelineError, match=r"model\.onnx gave no answer for 1x1x472x472 values in 0\.01 s"):
        model.denoise([pixels], pixels.dtype)


def test_mlflow_does_not_serve_what_may_never_answer(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", loop())
    with pytest.raises(MlflowException, match="operators that are not on the list of those allowed: Loop"):
        _load_pyfunc(str(path))


def test_a_file_that_was_opened_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_mean(tmp_path / "handoff", 1) / "model.onnx"
    check_model(path)
    monkeypatch.setattr(trial.subprocess, "run", lambda *_, **__: pytest.fail("tried again"))
    check_model(path)
    path.write_bytes(path.read_bytes() + b"\x72\x00")
    with pytest.raises(pytest.fail.Exception):
        check_model(path)


@pytest.mark.parametrize("halo", ["-1", "1025", "1" * 5000])
def test_a_halo_that_would_fill_the_memory(tmp_path: Path, halo: str) -> None:
    path = write_mean(tmp_path / "handoff", 1) / "model.onnx"
    proto = onnx.load(path)
    next(prop for prop in proto.metadata_props if prop.key == "halo").value = halo
    onnx.save(proto, path)
    with pytest.raises(ArgumentError, match="cannot be opened"):
        open_model(path)


def test_denoise_says_it_in_one_line(tmp_path: Path, cli: Cli) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "x.png")
    folder = Path(shutil.copytree(PROJECT / "artifacts" / "mnist-blind", tmp_path / "handoff"))
    write(folder / "model.onnx", loop())
    (folder / "SHA256SUMS").unlink()
    done = cli("denoise", "x.png", "--model", "handoff", "--output", "out")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert "operators that are not on the list of those allowed: Loop" in done.err
