"""Write a torch model as one ONNX file that describes itself, and reveals nothing about the machine that made it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from torch import nn

from pipeline.verification.graph import INPUT, IR_VERSION, OPSET, OUTPUT

AXES = {0: "batch", 2: "height", 3: "width"}  # the axes of the input and the output that can have any size


def export_onnx(
    model: nn.Module, channels: int, path: Path, metadata: Mapping[str, str], dtype: torch.dtype = torch.float32
) -> None:
    """Write `model` to `path`, with all weights inside.

    Args:
        model: takes and returns images [N, C, H, W]; it is moved to the CPU and put in eval mode.
        channels: C.
        path: the `.onnx` file.
        metadata: stored in the file as its `metadata_props`.
        dtype: of the images: float32 or uint8.
    """
    proto = export_program(model, channels, dtype).model_proto
    _strip(proto)
    proto.ir_version = IR_VERSION
    proto.doc_string = metadata["description"]
    proto.graph.name = "denoiser"
    documents = {
        INPUT: f"Noisy image: {metadata['input_range']}.",
        OUTPUT: f"Denoised image of the same size: {metadata['output_range']}.",
    }
    for value in (*proto.graph.input, *proto.graph.output):
        value.doc_string = documents[value.name]
        for axis, name in AXES.items():
            # The exporter names the output's axes by formulas over the input's; the crop makes them equal.
            value.type.tensor_type.shape.dim[axis].dim_param = name
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.save(proto, path)


def export_program(model: nn.Module, channels: int, dtype: torch.dtype) -> torch.onnx.ONNXProgram:
    """What torch makes of `model`: see `export_onnx`."""
    model = model.cpu().to(memory_format=torch.contiguous_format).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            model,
            # Sizes that differ, are not 1, and are not multiples of a stride, so that none is mistaken for a constant.
            ((torch.rand(5, channels, 30, 37) * (255 if dtype == torch.uint8 else 1)).to(dtype),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            # Strings, because `torch.export.Dim` silently falls back to a static axis where the model needs one.
            dynamic_shapes=(dict(AXES),),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program


def _strip(proto: onnx.ModelProto) -> None:
    """Remove the stack traces and source paths of this machine, and the intermediate shapes, which are formulas."""
    del proto.graph.value_info[:]
    proto.graph.ClearField("metadata_props")
    for node in proto.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.ClearField("metadata_props")
