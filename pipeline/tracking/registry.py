"""MLflow's model registry: versions of exported files, and which of them is the champion."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from pipeline.errors import ArgumentError, ParityError, PipelineError
from pipeline.files import sha256_file
from pipeline.tracking import names
from pipeline.tracking.store import ERRORS, NO_SUCH_THING, connect, failure, first_line


@cache
def _client() -> mlflow.MlflowClient:
    """The client, connected to the registry too, which may be another store than that of the runs."""
    client = connect()
    try:
        client.search_registered_models(max_results=1)
    except Exception as error:  # those of a database's driver have no base in common with MLflow's
        raise PipelineError(f"cannot use the registry {mlflow.get_registry_uri()}: {first_line(error)}") from error
    return client


def register(model_id: str, name: str, run_id: str, tags: Mapping[str, str]) -> int:
    """Make the model that `run_id` has logged the newest version of the registered model `name`; return its number."""
    try:
        _client()
        with contextlib.redirect_stderr(io.StringIO()):  # MLflow says there what the caller says in its own words
            return int(mlflow.register_model(f"models:/{model_id}", name, tags=dict(tags)).version)
    except (*ERRORS, PipelineError) as error:
        raise not_registered(name, run_id, first_line(error)) from error


def version_of(model_id: str, name: str) -> int | None:
    """The number of the version of the registered model `name` that a logged model is already, if it is one."""
    with suppress(*ERRORS, PipelineError):  # whoever registers it says why the registry does not answer
        for version in _client().search_model_versions(f"name = '{name}'"):
            if version.model_id == model_id or version.source == f"models:/{model_id}":
                return int(version.version)
    return None


def not_registered(name: str, run_id: str, reason: str) -> PipelineError:
    """The error for a hand-off that is written but not registered."""
    return PipelineError(
        f"--register {name}: the hand-off is written, but the registry did not take the model ({reason}); "
        f"later, run: python -m pipeline export --run-id {run_id} --register {name}"
    )


def find_version(name: str, number: int) -> ModelVersion:
    """A version of a registered model; the newest for 0.

    Raises:
        ArgumentError: there is none.
        PipelineError: the registry does not answer.
    """
    client = _client()
    try:
        if number:
            return client.get_model_version(name, str(number))
        versions = client.search_model_versions(f"name = '{name}'")
    except ERRORS as error:
        raise failure(f"registered model '{name}', version {number}", error) from error
    if not versions:
        raise ArgumentError(
            f"no model is registered as '{name}' in {mlflow.get_registry_uri()}; "
            f"run: python -m pipeline export --register {name}"
        )
    return max(versions, key=lambda version: int(version.version))


def find_champion(name: str) -> ModelVersion | None:
    """The version with the alias `champion`, if there is one."""
    try:
        return _client().get_model_version_by_alias(name, names.CHAMPION)
    except ERRORS as error:
        if isinstance(error, MlflowException) and error.error_code in NO_SUCH_THING:
            return None
        raise PipelineError(f"registered model '{name}': {first_line(error)}") from error


def make_champion(version: ModelVersion, former: ModelVersion | None, tags: Mapping[str, str]) -> None:
    """Give `version` the alias `champion`, and `former` the alias `previous`. The champion's alias moves last."""
    client = _client()
    try:
        for key, value in tags.items():
            client.set_model_version_tag(version.name, version.version, key, value)
        if former is not None:
            client.set_registered_model_alias(version.name, names.PREVIOUS, former.version)
        client.set_registered_model_alias(version.name, names.CHAMPION, version.version)
    except ERRORS as error:
        raise PipelineError(
            f"registered model '{version.name}': the alias {names.CHAMPION} was not moved: {first_line(error)}"
        ) from error


@contextmanager
def model_file(uri: str) -> Iterator[Path]:
    """A local copy of the ONNX file of a model such as `models:/NAME@champion`, removed afterwards.

    Raises:
        ArgumentError: there is no such model.
        PipelineError: it holds no ONNX file.
        ParityError: the file is not the one that passed the gates.
    """
    _client()
    with tempfile.TemporaryDirectory() as folder:
        try:
            copy = Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
            recorded = (Model.load(str(copy)).metadata or {}).get("sha256")
        except ERRORS as error:
            raise failure(uri, error) from error
        path = copy / names.ONNX
        if not path.is_file() or recorded is None:
            raise PipelineError(f"{uri} holds no {names.ONNX} of this pipeline")
        if (digest := sha256_file(path)) != recorded:
            raise ParityError(f"{uri}: the SHA-256 of {names.ONNX} is {digest}; the exported file had {recorded}")
        yield path


def version_tags(scores: Mapping[str, Mapping[str, Mapping[str, float]]], **facts: str) -> dict[str, str]:
    """The tags of a model version: `facts`, and of `{label of the noise: {denoiser: {metric: mean}}}` the quality.

    That is the test PSNR, or its estimate, or the noise level that is left, by label of the noise.
    """
    return {
        **facts,
        **{
            names.version_tag(metric, label): f"{of['denoised'][metric]:.4f}"
            for label, of in scores.items()
            for metric in ("psnr", "psnr_estimated", "sigma")
            if metric in of["denoised"]
        },
    }
