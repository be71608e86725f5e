"""Models of a few weights, as ONNX files that `denoise` opens: to test what it does around a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from conftest import PROJECT
from onnx import helper, numpy_helper

# Without what the limits of `denoising/familiarity.py` are read from: these models know no pictures.
METADATA = {
    prop.key: prop.value
    for prop in onnx.load(PROJECT / "artifacts" / "mnist-blind" / "model.onnx").metadata_props
    if prop.key != "removed_correlation"
}


def write_mean(folder: Path, channels: int) -> Path:
    """A hand-off folder with a model that treats neither its channels nor the sides of an image alike.

    Every output is a weighted mean of two pixels of its own channel and of the last one.
    """
    weights = np.zeros((5, 5), np.float32)
    weights[2, 2], weights[0, 1] = 0.7, 0.3  # the latter another place in each turn and flip
    kernel = np.zeros((channels, channels, 5, 5), np.float32)
    for channel in range(channels):
        kernel[channel, channel] = (0.9 - 0.1 * channel) * weights
        kernel[channel, -1] += 0.1 * weights
    return _write(folder, channels, kernel, halo=8)


def write_identity(folder: Path) -> Path:
    """A hand-off folder with a model of one channel that returns what it is given."""
    return _write(folder, 1, np.ones((1, 1, 1, 1), np.float32), halo=0)


def _write(folder: Path, channels: int, kernel: np.ndarray, halo: int) -> Path:
    pads = [kernel.shape[-1] // 2] * 4
    graph = helper.make_graph(
        [helper.make_node("Conv", ["noisy", "kernel"], ["denoised"], pads=pads)],
        "convolution",
        *(
            [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", channels, "h", "w"])]
            for name in ("noisy", "denoised")
        ),
        [numpy_helper.from_array(kernel, "kernel")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    for key, value in (METADATA | {"halo": str(halo)}).items():
        proto.metadata_props.add(key=key, value=value)
    folder.mkdir(parents=True)
    onnx.save(proto, folder / "model.onnx")
    return folder
