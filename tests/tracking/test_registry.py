"""Registering, promoting and serving, against a real MLflow store."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pytest
from conftest import Cli, Trained, run_module
from onnx import numpy_helper

from pipeline.tracking import names


@pytest.fixture
def store(trained: Trained, tmp_path: Path) -> Path:
    """A folder with a copy of the store of `trained`, of its artifacts and of its data."""
    shutil.copytree(trained.cwd / "data", tmp_path / "data")
    shutil.copytree(trained.cwd / "mlruns", tmp_path / "mlruns")
    shutil.copy(trained.cwd / "mlflow.db", tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "storage_location"),
        ):
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(trained.cwd), str(tmp_path))
            )
    return tmp_path


def client(store: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{store / 'mlflow.db'}")


def logged_model(store: Path, source: str) -> Path:
    """The folder of a logged model, from the `models:/m-…` that a version is made from."""
    return Path(client(store).get_logged_model(source.rpartition("/")[2]).artifact_location)


def register_again(store: Path) -> None:
    """The file of version 1, as another version."""
    version = client(store).get_model_version("digits", "1")
    source = str(logged_model(store, version.source))
    client(store).create_model_version("digits", source, version.run_id, tags=version.tags)


def aliases(store: Path) -> dict[str, str]:
    return {key: str(value) for key, value in client(store).get_registered_model("digits").aliases.items()}


def test_a_version_says_what_it_is(trained: Trained, store: Path) -> None:
    version = client(store).get_model_version("digits", "1")
    manifest = json.loads((trained.handoff / "manifest.json").read_text())
    assert version.run_id == trained.run_id
    assert version.tags[names.NOISE] == "gaussian:variance=0.01"
    assert version.tags[names.DATASET] == "digits"
    assert version.tags[names.DATASET_SHA256] == manifest["trained_on"]["dataset_sha256"]
    assert version.tags[names.ONNX_SHA256] == manifest["models"][0]["sha256"]
    assert version.tags[names.WEIGHTS] == manifest["model"]["weights_sha256"]
    for label in ("0.001", "0.01", "0.1"):
        wanted = manifest["test"]["scores"][label]["denoised"]["psnr"]
        assert float(version.tags[names.version_tag("psnr", label)]) == pytest.approx(wanted, abs=1e-4)
    assert aliases(store) == {}


def test_only_the_better_one_becomes_the_champion(trained: Trained, store: Path, cli: Cli) -> None:
    done = cli("promote", "digits")
    assert (done.code, done.out) == (0, "promote: digits version 1 is the first champion\n"), done
    done = cli("promote", "digits")
    assert (done.code, done.out) == (0, "promote: digits version 1 is the champion already\n")

    # The very same file again: no better, by exactly the margin.
    register_again(store)
    done = cli("promote", "digits")
    assert done.code == 0
    assert "digits version 2 stays a challenger, 0.050 dB short" in done.out
    assert "+0.000 dB (standard error 0.000), margin 0.05 dB, digits with gaussian:variance=0.01" in done.out
    assert aliases(store) == {"champion": "1"}

    # A longer training is better.
    longer = ("run", "--dataset", trained.cwd / "digits", "--epochs", 9, "--batch-size", 16, "--name", "better")
    done = cli(*longer, "--register", "digits")
    assert "export: digits version 3; make it the champion with: python -m pipeline promote digits" in done.out, done
    done = cli(*longer, "--register", "digits")  # all of it is reused
    assert "export: digits version 3 already; make it the champion with: " in done.out, done
    assert len(client(store).search_model_versions("name = 'digits'")) == 3
    done = cli("promote", "digits")
    assert done.code == 0, done
    assert "digits version 3 is the champion (better: " in done.out
    assert aliases(store) == {"champion": "3", "previous": "1"}
    assert client(store).get_model_version("digits", "3").tags[names.FORCED] == "false"

    # Back, by force, which is recorded.
    done = cli("promote", "digits", "--version", 1, "--force")
    assert "is the champion (forced: " in done.out
    assert aliases(store) == {"champion": "1", "previous": "3"}
    assert client(store).get_model_version("digits", "1").tags[names.FORCED] == "true"

    # The champion by its alias.
    folder = trained.cwd / "digits"
    done = cli("denoise", "--model", "models:/digits@champion", folder / "0000.png", "--output", store / "out")
    assert done.code == 0, done
    assert (store / "out" / "0000.png").is_file()


def test_what_cannot_be_compared_moves_no_alias(trained: Trained, store: Path, cli: Cli) -> None:
    assert cli("promote", "digits").code == 0
    done = cli("promote", "nobody")
    assert done.code == 2
    assert "no model is registered as 'nobody'" in done.err
    done = cli("promote", "digits", "--version", 7)
    assert done.code == 2
    assert "registered model 'digits', version 7" in done.err

    # The same run, registered as if it had been trained with another noise.
    register_again(store)
    client(store).set_model_version_tag("digits", "2", "noise", "gaussian:variance=0.1")
    done = cli("promote", "digits")
    assert done.code == 1
    assert "cannot be compared: noise is gaussian:variance=0.1 and gaussian:variance=0.01" in done.err
    client(store).delete_model_version_tag("digits", "2", "noise")
    done = cli("promote", "digits")
    assert "digits version 2 has no tag noise" in done.err
    client(store).set_model_version_tag("digits", "2", "noise", "gaussian:variance=0.01")

    # A file that was changed in the store.
    folder = logged_model(store, client(store).get_model_version("digits", "1").source)
    proto = onnx.load(folder / "model.onnx")
    values = numpy_helper.to_array(proto.graph.initializer[0]) * np.float32(1.001)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, proto.graph.initializer[0].name))
    onnx.save(proto, folder / "model.onnx")
    done = cli("promote", "digits")
    assert done.code == 3, done
    assert "; the exported file had" in done.err
    assert done.err.count("\n") == 1
    assert aliases(store) == {"champion": "1"}


def test_a_registry_that_does_not_answer(trained: Trained, store: Path, cli: Cli) -> None:
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        done = cli("promote", "digits", MLFLOW_TRACKING_URI=address, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert done.code == 1
    assert f"cannot use the tracking store {address}" in done.err
    assert done.err.count("\n") == 1


@pytest.fixture
def server(store: Path, cli: Cli) -> Iterator[str]:
    """The address of `mlflow models serve` of the champion."""
    assert cli("promote", "digits").code == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "mlflow", "models", "serve", "-m", "models:/digits@champion", "--env-manager", "local"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (store / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command, "--port", str(port)],
            cwd=store,
            env={**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{store / 'mlflow.db'}"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (store / "serve.log").read_text()
                time.sleep(0.25)
        yield address
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def post(address: str, payload: Any) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(payload).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_champion_is_served(trained: Trained, server: str) -> None:
    golden = trained.handoff / "test_data_set_0"
    noisy, wanted = (
        numpy_helper.to_array(onnx.TensorProto.FromString((golden / f"{name}_0.pb").read_bytes()))
        for name in ("input", "output")
    )
    images = noisy.tolist()
    for payload in ({"inputs": {"noisy": images}}, {"inputs": images}, {"instances": images}):
        status, answer = post(server, payload)
        assert status == 200, answer
        denoised = np.array(answer["predictions"]["denoised"], np.float32)
        np.testing.assert_allclose(denoised, wanted, rtol=0, atol=1e-5)

    # No answer that looks like one.
    integers = (noisy.clip(0, 1) * 255).round().astype(int).tolist()
    for wrong, message in (
        (integers, "divide 8-bit pixels by 255"),
        (noisy[:, :, :, 0].tolist(), "shape"),
        ([], "does not match expected shape"),
    ):
        status, answer = post(server, {"inputs": {"noisy": wrong}})
        assert status == 400, answer
        assert message in json.dumps(answer)


def test_as_a_pyfunc_it_refuses_what_is_no_image(trained: Trained, store: Path) -> None:
    folder = logged_model(store, client(store).get_model_version("digits", "1").source)
    model = mlflow.pyfunc.load_model(str(folder))
    noisy = np.zeros((2, 1, 28, 28), np.float32)
    assert model.predict({"noisy": noisy})["denoised"].shape == noisy.shape
    for value, message in ((np.nan, "holds NaN or infinity"), (255, "divide 8-bit pixels by 255")):
        with pytest.raises(mlflow.exceptions.MlflowException, match=message):
            model.predict({"noisy": np.full_like(noisy, value)})
    with pytest.raises(mlflow.exceptions.MlflowException, match="empty input"):
        model.predict({"noisy": noisy[:0]})
    # And as an ONNX model it is what it was.
    assert mlflow.onnx.load_model(str(folder)) == onnx.load(trained.handoff / "model.onnx")


def test_a_model_answers_a_file_and_is_written_for_an_image(trained: Trained, tmp_path: Path) -> None:
    """`mlflow models predict` and `generate-dockerfile`; no image is built."""
    (model,) = client(trained.cwd).search_logged_models(["0"])
    example = logged_model(trained.cwd, model.model_id) / "serving_input_example.json"
    (tmp_path / "request.json").write_text(example.read_text())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": trained.store}

    def models(command: str, *options: str) -> None:
        words = ["models", command, "-m", f"models:/{model.model_id}", "--env-manager", "local", *options]
        done = run_module("mlflow", words, tmp_path, variables)
        assert done.code == 0, done

    models("predict", "--input-path", "request.json", "--content-type", "json", "--output-path", "answer.json")
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert np.shape(answer["predictions"]["denoised"]) == (1, 1, 28, 28)
    models("generate-dockerfile", "--output-directory", "image")
    assert "ENTRYPOINT" in (tmp_path / "image" / "Dockerfile").read_text()
    (copy,) = (tmp_path / "image" / "model_dir").rglob(names.ONNX)
    assert copy.read_bytes() == (trained.handoff / names.ONNX).read_bytes()
