"""Copying runs with their models from one tracking store to another. Whatever is copied again, changes nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.entities import (
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.errors import ParityError
from pipeline.files import sha256_file
from pipeline.tracking import names
from pipeline.tracking.queries import search_runs

_METRICS, _PARAMS = 1000, 100  # at once, the most that MLflow takes
_REFERENCES = (names.PARENT, names.CONTINUES, names.START, names.BEST_RUN)  # tags that hold the ID of another run


class Copier:
    """Copies from one store to another, where a tag of each run and model says which one it is a copy of.

    An ID cannot be chosen, so a copy has another; what refers to the original is led to the copy.
    """

    def __init__(self, source: mlflow.MlflowClient, target: mlflow.MlflowClient, experiment: str) -> None:
        """Args:
        source: the client of the store to copy from.
        target: of the store to copy to.
        experiment: ID of the experiment in `source`; one of the same name is made in `target` if there is none.
        """
        self._source, self._target = source, target
        name = source.get_experiment(experiment).name
        found = target.get_experiment_by_name(name)
        self._experiment = found.experiment_id if found else target.create_experiment(name)
        if not found:
            for key, value in source.get_experiment(experiment).tags.items():
                target.set_experiment_tag(self._experiment, key, value)
        copies = search_runs(self._experiment, f"tags.`{names.COPY_OF}` != ''", target)
        self.copies = {run.data.tags[names.COPY_OF]: run for run in copies}

    def is_there(self, run: Run) -> bool:
        """Whether the target has all of a run, as it is now."""
        copy = self.copies.get(run.info.run_id)
        return copy is not None and copy.data.tags.get(names.COPIED) == _digest(run)

    def copy(self, run: Run) -> str:
        """Copy a run that is over; returns the ID of the copy.

        Raises:
            ParityError: the target has another ONNX file than was sent.
        """
        source_id = run.info.run_id
        if source_id not in self.copies:
            tags = {names.COPY_OF: source_id, names.RUN_NAME: run.info.run_name}
            self.copies[source_id] = self._target.create_run(self._experiment, run.info.start_time, tags)
        copy_id = self.copies[source_id].info.run_id
        models = {model.model_id: self._copy_model(model, copy_id) for model in _models_of(self._source, run)}
        there = {output.model_id for output in _outputs(self._target.get_run(copy_id))}
        outputs = [
            LoggedModelOutput(models[output.model_id].model_id, output.step)
            for output in _outputs(run)
            if output.model_id in models and models[output.model_id].model_id not in there
        ]
        if outputs:
            self._target.log_outputs(copy_id, outputs)
        self._copy_values(run, copy_id, models)
        if run.inputs and run.inputs.dataset_inputs:
            self._target.log_inputs(copy_id, run.inputs.dataset_inputs)
        with tempfile.TemporaryDirectory() as folder:
            self._target.log_artifacts(copy_id, self._source.download_artifacts(source_id, "", folder))
        self._target.set_terminated(copy_id, run.info.status, run.info.end_time)
        self._target.set_tag(copy_id, names.COPIED, _digest(run))  # until it is there, the run is not copied
        return copy_id

    def lead_references(self, run: Run) -> None:
        """Have the tags of a copied run that name other runs name their copies, as far as there are any."""
        copy_id = self.copies[run.info.run_id].info.run_id
        for key in _REFERENCES:
            if (other := self.copies.get(run.data.tags.get(key, ""))) is not None:
                self._target.set_tag(copy_id, key, other.info.run_id)

    def copy_versions(self, run: Run) -> list[str]:
        """Register the models of a copied run under the names that they have in the source; returns the new ones.

        Versions get other numbers, and no aliases: which one is the champion there, is decided there.
        """
        copy_id = self.copies[run.info.run_id].info.run_id
        registered = []
        copies = _models_of(self._target, self._target.get_run(copy_id))
        models = {model.tags[names.COPY_OF]: model.model_id for model in copies}
        for version in self._source.search_model_versions(f"run_id = '{run.info.run_id}'"):
            if (model_id := models.get(_model_of(version))) is None:
                continue
            try:
                self._target.create_registered_model(version.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            known = self._target.search_model_versions(f"name = '{version.name}'")
            if model_id not in map(_model_of, known):
                new = self._target.create_model_version(
                    version.name,
                    f"models:/{model_id}",
                    copy_id,
                    tags={**version.tags, names.RUN: copy_id},
                    description=version.description,
                    model_id=model_id,
                    await_creation_for=0,
                )
                registered.append(f"{version.name} version {new.version}")
        return registered

    def _copy_model(self, model: LoggedModel, copy_id: str) -> LoggedModel:
        for there in self._target.search_logged_models([self._experiment], f"source_run_id = '{copy_id}'"):
            if there.tags.get(names.COPY_OF) == model.model_id:
                if there.status == LoggedModelStatus.READY:
                    return there
                self._target.delete_logged_model(there.model_id)  # interrupted
        new = self._target.create_logged_model(
            self._experiment,
            model.name,
            copy_id,
            tags={**model.tags, names.COPY_OF: model.model_id},
            params=model.params,
            model_type=model.model_type or None,
        )
        with _files_of(model) as folder:
            description = folder / "MLmodel"
            text = description.read_text()
            for former, now in ((model.model_id, new.model_id), (model.source_run_id or copy_id, copy_id)):
                text = text.replace(former, now)
            description.write_text(text)
            self._target.log_model_artifacts(new.model_id, str(folder))
            with tempfile.TemporaryDirectory() as scratch:
                address = f"{new.artifact_location}/{names.ONNX}"
                sent = Path(mlflow.artifacts.download_artifacts(address, dst_path=scratch, tracking_uri=self._uri))
                if sha256_file(sent) != sha256_file(folder / names.ONNX):
                    self._target.delete_logged_model(new.model_id)
                    raise ParityError(f"parity: the copy of {names.ONNX} of model {model.model_id} differs from it")
        return self._target.finalize_logged_model(new.model_id, LoggedModelStatus.READY)

    @property
    def _uri(self) -> str:
        return self._target.tracking_uri

    def _copy_values(self, run: Run, copy_id: str, models: dict[str, LoggedModel]) -> None:
        data = run.data
        measured = [metric for key in data.metrics for metric in self._source.get_metric_history(run.info.run_id, key)]
        # The model's own know which model and data they are of.
        of_models = {
            (metric.key, metric.timestamp, metric.step): Metric(
                *(metric.key, metric.value, metric.timestamp, metric.step),
                *(models[model_id].model_id, metric.dataset_name, metric.dataset_digest, copy_id),
            )
            for model_id in models
            for metric in self._source.get_logged_model(model_id).metrics or ()
        }
        metrics = [of_models.get((metric.key, metric.timestamp, metric.step), metric) for metric in measured]
        tags = {**data.tags, names.COPY_OF: run.info.run_id}
        if tags.get(names.MODEL_ID) in models:
            tags[names.MODEL_ID] = models[tags[names.MODEL_ID]].model_id
        for some in _parts(metrics, _METRICS):
            self._target.log_batch(copy_id, metrics=some, synchronous=True)
        for some in _parts([Param(key, value) for key, value in data.params.items()], _PARAMS):
            self._target.log_batch(copy_id, params=some, synchronous=True)
        for some in _parts([RunTag(key, value) for key, value in tags.items()], _PARAMS):
            self._target.log_batch(copy_id, tags=some, synchronous=True)


def _digest(run: Run) -> str:
    """Of what changes whenever something is added to a run."""
    state = [run.info.status, run.data.tags, run.data.metrics, run.data.params]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _outputs(run: Run) -> list[LoggedModelOutput]:
    return run.outputs.model_outputs if run.outputs else []


def _models_of(client: mlflow.MlflowClient, run: Run) -> list[LoggedModel]:
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    return [model for model in found if model.status == LoggedModelStatus.READY]


def _model_of(version: ModelVersion) -> str:
    """The ID of the logged model that a version is, which not every store tells in its field."""
    return version.model_id or (version.source or "").removeprefix("models:/")


@contextmanager
def _files_of(model: LoggedModel) -> Iterator[Path]:
    """A copy of the files of a model of the source."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(mlflow.artifacts.download_artifacts(f"models:/{model.model_id}", dst_path=folder))
        copy = Path(folder) / "copy"
        shutil.copytree(found, copy) if found != copy else None
        yield copy


def _parts(values: Sequence, size: int) -> Iterator[Sequence]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
