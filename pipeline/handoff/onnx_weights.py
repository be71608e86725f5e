"""The weights of an exported file, back in torch: its initializers keep the names of the parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from pipeline.denoising.trial import check_model
from pipeline.errors import PipelineError
from pipeline.models import build_model
from pipeline.training.checkpoint import Checkpoint
from pipeline.verification.runtimes import open_onnxruntime

_SAME = 1e-4  # largest difference between the outputs of the file and of torch with its weights
_COUNTER = "num_batches_tracked"  # of BatchNorm; it has no effect where the momentum is given


def read_onnx(path: Path, spec: str, size: str) -> tuple[Checkpoint, str]:
    """The weights in an exported file, as a checkpoint, and the ID of the MLflow run that trained them.

    Args:
        path: of the .onnx file, in float32.
        spec: the model that it must hold, `NAME[:key=value,…]`.
        size: of the model.

    Raises:
        PipelineError: it must not be opened, holds another model, or not all of its weights.
    """
    check_model(path)
    try:
        proto = onnx.load(path)
        facts = {entry.key: entry.value for entry in proto.metadata_props}
        channels = proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
        name, run_id = facts["model"], facts["mlflow_run_id"]
    except Exception as error:  # of a damaged file, onnx raises errors of many kinds
        raise PipelineError("it is not a file that this pipeline has exported, or is damaged") from error
    model = build_model(spec, size, channels)
    fresh = model.state_dict()
    needed = {key: value for key, value in fresh.items() if not key.endswith(_COUNTER)}
    missing = [key for key in needed if key not in stored]
    differ = [key for key in needed.keys() - missing if stored[key].shape != tuple(needed[key].shape)]
    if differ or len(missing) == len(needed):
        raise PipelineError(f"it holds {name}; train the same --model, --size and options")
    if missing or any(stored[key].dtype != np.float32 for key in needed):
        raise PipelineError(
            f"of {name}, it does not hold every weight as torch has it ({', '.join(missing[:1]) or 'other types'}): "
            f"BatchNorm is folded into the convolutions, or it is a smaller form of the file; give the run: {run_id}"
        )
    weights = {key: torch.from_numpy(stored[key].copy()) if key in needed else fresh[key] for key in fresh}
    model.load_state_dict(weights)
    noisy = torch.rand((1, channels, 21, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = np.abs(model.eval()(noisy).numpy() - open_onnxruntime(path, threads=1)(noisy.numpy())).max()
    if not difference < _SAME:
        raise PipelineError(f"with its weights, {name} computes something else than the file; give the run: {run_id}")
    return Checkpoint(spec, size, channels, 0, 0.0, weights), run_id
