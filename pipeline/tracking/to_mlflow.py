"""How the events of a spool reach MLflow. A kind of event is a function here, and an entry in `KINDS`.

Every function may be called again with events that the store has already; then nothing changes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from pipeline.errors import ParityError, PipelineError
from pipeline.files import inside, sha256_file
from pipeline.tracking import names
from pipeline.tracking.event_log import Event
from pipeline.tracking.spool import RefusedError
from pipeline.tracking.store import connect, first_line, uri

_UPLOADS = 8  # at a time
# Asked again, a store answers these again. (Not BAD_REQUEST: two writers of the same dataset at once get that, too.)
_NOT_NOW = {401, 407, 408, 423, 425, 429}  # HTTP: log in first, or later
_FINAL = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED", "INVALID_STATE"}


def send(run_id: str, folder: Path, events: list[Event]) -> None:
    """Send `events` to the store, with the files in `folder` that they name; if there are none, ask it for the run.

    Raises:
        RefusedError: the store will never take one of them.
        ParityError: what the store has is not what was sent.
    """
    if unknown := {event["kind"] for event in events} - KINDS.keys():
        raise RefusedError(f"records of an unknown kind, from a newer version: {', '.join(sorted(unknown))}")
    try:
        if not events:
            connect().get_run(run_id)
        for kind, send_kind in KINDS.items():
            if of_kind := [event for event in events if event["kind"] == kind]:
                send_kind(run_id, folder, of_kind)
    except (MlflowException, OSError) as error:
        if _is_final(error):
            raise RefusedError(f"the tracking store refused it: {first_line(error)}") from error
        raise
    except (ParityError, RefusedError):
        raise
    except PipelineError as error:  # a record names what is not in the folder
        raise RefusedError(f"a record is damaged: {error}") from error


def _is_final(error: MlflowException | OSError) -> bool:
    """Whether the store, or a proxy before it, will answer the same if it is asked again."""
    if isinstance(error, MlflowException):
        return error.error_code in _FINAL
    status = getattr(getattr(error, "response", None), "status_code", 0)  # of an HTTPError: artifacts have no other
    return 400 <= status < 500 and status not in _NOT_NOW


def _send_values(run_id: str, folder: Path, events: list[Event]) -> None:
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


def _send_artifacts(run_id: str, folder: Path, events: list[Event]) -> None:
    """Files, and folders with all their files, several at a time: a distant server takes long for each."""
    files: dict[str, tuple[Path, str]] = {}  # by their place in the store; the last one counts
    for event in events:
        source = inside(folder, event["file"])
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            parent = path.parent.relative_to(source).as_posix() if source.is_dir() else ""
            place = "/".join(part for part in (event["path"], parent) if part not in ("", "."))
            if inside(folder, path.relative_to(folder).as_posix()).is_file():
                files[f"{place}/{path.name}"] = (path, place)
    _remove_halves(run_id, {place for _, place in files.values()})
    with ThreadPoolExecutor(_UPLOADS) as pool:
        list(pool.map(lambda file: connect().log_artifact(run_id, str(file[0]), file[1] or None), files.values()))


def _remove_halves(run_id: str, places: set[str]) -> None:
    """Remove what MLflow leaves of files whose copying to a folder was killed, under names that it reserves."""
    if uri().startswith("http") or not is_local_uri(root := connect().get_run(run_id).info.artifact_uri):
        return
    for place in places:
        for half in (Path(local_file_uri_to_path(root)) / place).glob(".artifact.uploading.*"):
            half.unlink(missing_ok=True)


def _send_datasets(run_id: str, folder: Path, events: list[Event]) -> None:
    inputs = [
        DatasetInput(Dataset(**event["dataset"]), [InputTag(names.DATASET_CONTEXT, event["context"])])
        for event in events
    ]
    connect().log_inputs(run_id, inputs)


def _send_end(run_id: str, folder: Path, events: list[Event]) -> None:
    connect().set_terminated(run_id, events[-1]["status"], events[-1]["time"])


def _send_models(run_id: str, folder: Path, events: list[Event]) -> None:
    for event in events:
        _send_model(run_id, folder, event)


def _send_model(run_id: str, folder: Path, event: Event) -> None:
    """Log an ONNX file as a model, check that the store has the same bytes, and tag the run with the model's id."""
    file, digest = inside(folder, f"{event['folder']}/{names.ONNX}"), event["metadata"]["sha256"]
    client = connect()
    experiment = client.get_run(run_id).info.experiment_id
    for model in client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        if model.tags.get("event") == event["id"] and model.status != LoggedModelStatus.READY:
            client.delete_logged_model(model.model_id)  # interrupted
        elif model.tags.get("event") == event["id"]:
            client.set_tag(run_id, names.MODEL_ID, model.model_id)
            return
    example = np.load(inside(folder, f"{event['folder']}/example.npy"), allow_pickle=False)
    code = [event["loader"], *([event["package"]] if "package" in event else [])]  # records of former versions lack it
    # Made here, because `Model.log` would make it in the experiment of this process.
    entry = client.create_logged_model(
        experiment,
        names.DENOISER,
        run_id,
        tags={**event.get("tags", {}), "event": event["id"]},
        params=client.get_run(run_id).data.params,
    )
    info = Model.log(
        artifact_path=None,
        model_id=entry.model_id,
        flavor=_OnnxWithLoader,
        flavor_name="mlflow.onnx",
        run_id=run_id,
        onnx_model=onnx.load(file),  # MLflow may change it in place
        code_paths=[str(inside(folder, f"{event['folder']}/{name}")) for name in code],
        signature=ModelSignature(
            *(
                Schema([TensorSpec(np.dtype("float32"), (-1, example.shape[1], -1, -1), name)])
                for name in ("noisy", "denoised")
            )
        ),
        input_example={"noisy": example},
        pip_requirements=event["requirements"],
        onnx_execution_providers=["CPUExecutionProvider"],
        # A server waits most of the time: threads that spin meanwhile take the processor from others.
        onnx_session_options={"extra_session_config": {"session.intra_op.allow_spinning": "0"}},
        save_as_external_data=False,
        extra_files=[str(inside(folder, f"{event['folder']}/{name}")) for name in event["extra_files"]],
        metadata=event["metadata"],
        step=event["step"],
    )
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(mlflow.artifacts.download_artifacts(f"models:/{info.model_id}", dst_path=scratch))
        if sha256_file(copy / names.ONNX) != digest:
            client.delete_logged_model(info.model_id)
            raise ParityError(
                f"parity: MLflow's copy of {names.ONNX} (model {info.model_id}) differs from the exported file"
            )
    client.set_tag(run_id, names.MODEL_ID, info.model_id)


def _send_results(run_id: str, folder: Path, events: list[Event]) -> None:
    """Log metrics that the run has, with their time, once more as those of its model on a dataset."""
    client = connect()
    data = client.get_run(run_id).data
    # To a second point of the same time and step, a database says no.
    model = client.get_logged_model(data.tags[names.MODEL_ID])
    known = {(one.key, one.timestamp, one.step) for one in model.metrics or []}
    latest = {metric.key: metric for metric in data.to_proto().metrics}
    for event in events:
        of = {"dataset_name": event["dataset"]["name"], "dataset_digest": event["dataset"]["digest"]}
        found = [latest[name] for name in event["metrics"] if name in latest]
        found = [one for one in found if (one.key, one.timestamp, one.step) not in known]
        metrics = [
            Metric(one.key, one.value, one.timestamp, one.step, model_id=data.tags[names.MODEL_ID], run_id=run_id, **of)
            for one in found
        ]
        client.log_batch(run_id, metrics, synchronous=True)


class _OnnxWithLoader:
    """MLflow's ONNX flavor, but as a pyfunc the model is loaded by the first module in its `code` folder."""

    @staticmethod
    def save_model(path: str, mlflow_model: Model, code_paths: list[str], **options: Any) -> None:
        mlflow.onnx.save_model(path=path, mlflow_model=mlflow_model, code_paths=code_paths, **options)
        mlflow_model.flavors["python_function"]["loader_module"] = Path(code_paths[0]).stem
        mlflow_model.save(str(Path(path) / "MLmodel"))


# In the order in which a group is sent: a model that the store damages stops the rest, and tags say what a run has, so
# that comes before them.
KINDS: dict[str, Callable[[str, Path, list[Event]], None]] = {
    "model": _send_models,
    "artifact": _send_artifacts,
    "dataset": _send_datasets,
    "values": _send_values,
    "results": _send_results,
    "end": _send_end,
}
