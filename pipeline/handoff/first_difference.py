"""Where does a file that is not its model begin to differ from it? For whoever has to find the cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import fx, nn

from pipeline.handoff.onnx_file import export_program
from pipeline.verification.graph import INPUT, OUTPUT

# Relative to the largest value: rounding, added up over a whole network, stays below it, and a fault does not.
_SAME = 1e-5


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the value of every node, by name."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.values[n.name] = value
        return value


def first_difference(path: Path, model: nn.Module, images: np.ndarray) -> str:
    """The first node of a file whose output is not that of torch, in words; "" if none is.

    The exporter gives the output of a node the name that the operation has in torch's graph, so that both sides can be
    held against each other, except where it merges or splits operations.

    Args:
        path: of the ONNX file.
        model: that it was made from, on the CPU, in eval mode.
        images: an input for which the outputs differ, float32 [N, C, H, W].
    """
    try:
        proto = onnx.load(path, load_external_data=False)
        wanted = _torch_values(model, images)
        found = _file_values(proto, images)
    except Exception as error:  # whatever is wrong with the file: it is wrong, and the gates say so
        return f"unknown: the file cannot be compared node by node ({type(error).__name__})"
    compared = 0
    for node in proto.graph.node:
        for name in node.output:
            if name not in found or name not in wanted:
                continue
            values, of_torch = found[name], wanted[name]
            compared += 1
            where = f"node {_described(node, proto)}"
            if values.shape != of_torch.shape:
                return f"{where}: its output is {list(values.shape)}, in torch {list(of_torch.shape)}"
            difference = _distance(values, of_torch)
            if not difference <= _SAME * max(1.0, float(np.abs(np.nan_to_num(of_torch)).max(initial=0))):
                return f"{where}: its output differs from torch by {difference:.2g}"
    return "" if compared else "unknown: no node of the file has a name of torch's graph"


def _described(node: onnx.NodeProto, proto: onnx.ModelProto) -> str:
    """What a person finds a node by: operator, output, and the weights that it uses."""
    weights = {tensor.name for tensor in proto.graph.initializer if "." in tensor.name}
    of = ", ".join(name for name in node.input if name in weights)
    return f"{node.op_type} '{node.output[0]}'" + (f" ({of})" if of else "")


def _distance(values: np.ndarray, of_torch: np.ndarray) -> float:
    both = np.isfinite(values) & np.isfinite(of_torch)
    if not np.array_equal(np.isfinite(values), np.isfinite(of_torch)):
        return float("inf")
    return float(np.abs(values - of_torch)[both].max(initial=0))


@torch.no_grad()
def _torch_values(model: nn.Module, images: np.ndarray) -> dict[str, np.ndarray]:
    program = export_program(model, images.shape[1], torch.float32).exported_program
    assert program is not None
    recorder = _Recorder(program.module())
    last = recorder.run(torch.from_numpy(images))
    values = {**recorder.values, OUTPUT: last}
    return {name: value.numpy() for name, value in values.items() if value.dtype == torch.float32}


def _file_values(proto: onnx.ModelProto, images: np.ndarray) -> dict[str, np.ndarray]:
    """The output of every node of a file that is a float tensor."""
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    del shown.graph.output[:]
    inferred = onnx.shape_inference.infer_shapes(proto)
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            shown.graph.output.append(onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {INPUT: images}), strict=True))
