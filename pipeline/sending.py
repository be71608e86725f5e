"""How the events of a spool reach MLflow. A kind of event is a function here, and an entry in `KINDS`.

Every function may be called again with an event that the store has already: then nothing changes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from pipeline.errors import ParityError
from pipeline.files import sha256_file
from pipeline.onnx.verify import MODEL
from pipeline.spool import Event, RefusedError
from pipeline.store import connect, first_line

# Asked again, a store says these again.
_FINAL = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED", "BAD_REQUEST", "INVALID_STATE"}


def send(run_id: str, folder: Path, events: list[Event]) -> None:
    """Tell the store of `events`, with the files that they name in `folder`.

    Raises:
        RefusedError: the store will not take one of them.
        ParityError: what it took is not what was sent.
    """
    try:
        values = [event for event in events if event["kind"] == "values"]
        if values:
            _send_values(run_id, values)
        for event in events:
            if event["kind"] != "values":
                KINDS[event["kind"]](run_id, folder, event)
    except MlflowException as error:
        if error.error_code in _FINAL:
            raise RefusedError(f"the tracking store refuses it: {first_line(error)}") from error
        raise


def _send_values(run_id: str, events: list[Event]) -> None:
    """Metrics with the time they were measured at, parameters and tags. The store keeps equal ones once."""
    metrics = [
        Metric(key, value, event["time"], event["step"]) for event in events for key, value in event["metrics"].items()
    ]
    params = {key: value for event in events for key, value in event["params"].items()}
    tags = {key: value for event in events for key, value in event["tags"].items()}
    connect().log_batch(
        run_id,
        metrics,
        [Param(key, value) for key, value in params.items()],
        [RunTag(key, value) for key, value in tags.items()],
        synchronous=True,
    )


def _send_artifact(run_id: str, folder: Path, event: Event) -> None:
    source = folder / event["file"]
    if source.is_dir():
        connect().log_artifacts(run_id, str(source), event["path"])
    else:
        connect().log_artifact(run_id, str(source), event["path"] or None)


def _send_dataset(run_id: str, folder: Path, event: Event) -> None:
    tags = [InputTag("mlflow.data.context", event["context"])]
    connect().log_inputs(run_id, [DatasetInput(Dataset(**event["dataset"]), tags)])


def _send_end(run_id: str, folder: Path, event: Event) -> None:
    connect().set_terminated(run_id, event["status"], event["time"])


def _send_model(run_id: str, folder: Path, event: Event) -> None:
    """Log an ONNX file as the model `denoiser`, see that the very same bytes are kept, and tag the run with its id."""
    client = connect()
    file, digest = folder / event["folder"] / MODEL, event["metadata"]["sha256"]
    experiment = client.get_run(run_id).info.experiment_id
    for model in client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        if model.tags.get("event") == event["id"] and model.status != LoggedModelStatus.READY:
            client.delete_logged_model(model.model_id)  # broken off
        elif model.tags.get("event") == event["id"]:
            client.set_tag(run_id, "model_id", model.model_id)
            return
    example = np.load(folder / event["folder"] / "example.npy")
    info = Model.log(
        artifact_path=None,
        name="denoiser",
        flavor=_OnnxWithLoader,
        flavor_name="mlflow.onnx",
        run_id=run_id,
        onnx_model=onnx.load(file),  # MLflow may change it in place
        code_paths=[str(folder / event["folder"] / event["loader"])],
        signature=ModelSignature(
            *(
                Schema([TensorSpec(np.dtype("float32"), (-1, example.shape[1], -1, -1), name)])
                for name in ("noisy", "denoised")
            )
        ),
        input_example={"noisy": example},
        pip_requirements=event["requirements"],
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
        extra_files=[str(folder / event["folder"] / name) for name in event["extra_files"]],
        metadata=event["metadata"],
        step=event["step"],
        tags={"event": event["id"]},
    )
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(mlflow.artifacts.download_artifacts(f"models:/{info.model_id}", dst_path=scratch))
        if sha256_file(copy / MODEL) != digest:
            raise ParityError(
                f"parity: MLflow's copy of {MODEL} (model {info.model_id}) differs from the exported file"
            )
    client.set_tag(run_id, "model_id", info.model_id)


class _OnnxWithLoader:
    """MLflow's ONNX flavor, but as a pyfunc the model is loaded by the one module in its `code` folder."""

    @staticmethod
    def save_model(path: str, mlflow_model: Model, code_paths: list[str], **options: Any) -> None:
        mlflow.onnx.save_model(path=path, mlflow_model=mlflow_model, code_paths=code_paths, **options)
        mlflow_model.flavors["python_function"]["loader_module"] = Path(code_paths[0]).stem
        mlflow_model.save(str(Path(path) / "MLmodel"))


KINDS: dict[str, Callable[[str, Path, Event], None]] = {
    "artifact": _send_artifact,
    "dataset": _send_dataset,
    "model": _send_model,
    "end": _send_end,
}
