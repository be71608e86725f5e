"""`push` copies finished runs with their models to a server, once, however often it is called or interrupted."""

from __future__ import annotations

import re
from pathlib import Path

import mlflow
import pytest
from conftest import TRAIN_LOSS, VALIDATION_LOSS, Trained, run_cli
from server import Proxy, Server

from pipeline.files import sha256_file
from pipeline.tracking import names


def test_a_run_arrives_with_its_model(trained: Trained, tmp_path: Path) -> None:
    with Server(tmp_path / "server") as server:
        with Proxy(server, refuse="model.onnx") as proxy:
            broken = run_cli("push", proxy.uri, trained.run_id, cwd=trained.cwd)
        assert broken.code == 1
        assert len(broken.err.splitlines()) == 1
        assert f"run {trained.run_id} (" in broken.err
        done = run_cli("push", server.uri, trained.run_id, cwd=trained.cwd)
        assert (done.code, done.err) == (0, ""), done
        assert re.fullmatch(
            rf"push: run {trained.run_id} \(.*\) is run [0-9a-f]+ on the server\n"
            "push: registered as digits version 1\npush: 1 run copied, 0 there already\n",
            done.out,
        )
        again = run_cli("push", server.uri, cwd=trained.cwd)
        assert (again.code, again.out.splitlines()[-1]) == (0, "push: 0 runs copied, 1 there already"), again

        ours, theirs = mlflow.MlflowClient(trained.store), mlflow.MlflowClient(server.uri, server.uri)
        run = ours.get_run(trained.run_id)
        (copy,) = theirs.search_runs(["0"])
        for part in ("status", "start_time", "end_time", "run_name"):
            assert getattr(copy.info, part) == getattr(run.info, part)
        assert copy.data.params == run.data.params
        assert copy.data.metrics == run.data.metrics
        for key in (TRAIN_LOSS, VALIDATION_LOSS):
            points = [
                [(point.step, point.value, point.timestamp) for point in client.get_metric_history(run_id, key)]
                for client, run_id in ((ours, run.info.run_id), (theirs, copy.info.run_id))
            ]
            assert points[0] == points[1]
        others = {names.COPY_OF, names.COPIED, names.MODEL_ID}
        assert {key: copy.data.tags[key] for key in run.data.tags if key not in others} == {
            key: value for key, value in run.data.tags.items() if key not in others
        }
        assert [one.dataset.digest for one in copy.inputs.dataset_inputs] == [
            one.dataset.digest for one in run.inputs.dataset_inputs
        ]
        assert len(copy.outputs.model_outputs) == len(run.outputs.model_outputs) == 1
        check_model(theirs, copy.info.run_id, trained, tmp_path)
        check_files(theirs, copy.info.run_id, trained, tmp_path)
        check_tidy(theirs, tmp_path)


def check_model(theirs: mlflow.MlflowClient, copy_id: str, trained: Trained, folder: Path) -> None:
    """One model, in whole, which names the copy as its run; and one version of it."""
    (model,) = theirs.search_logged_models(["0"])
    assert (model.source_run_id, str(model.status)) == (copy_id, "READY")
    assert theirs.get_run(copy_id).data.tags[names.MODEL_ID] == model.model_id
    (version,) = theirs.search_model_versions("name = 'digits'")
    assert (version.run_id, version.source, version.aliases) == (copy_id, f"models:/{model.model_id}", [])
    assert version.tags[names.RUN] == copy_id
    local = Path(
        mlflow.artifacts.download_artifacts(
            model.artifact_location, dst_path=str(folder / "model"), tracking_uri=theirs.tracking_uri
        )
    )
    assert sha256_file(local / names.ONNX) == sha256_file(trained.handoff / names.ONNX)
    description = (local / "MLmodel").read_text()
    assert copy_id in description
    assert model.model_id in description
    assert trained.run_id not in description


def check_tidy(theirs: mlflow.MlflowClient, folder: Path) -> None:
    """On a server, a run can only be marked as deleted, and what is marked is not offered again."""
    failed = theirs.create_run("0").info.run_id
    theirs.set_terminated(failed, "FAILED")
    for _ in range(2):
        done = run_cli("tidy", "--rule", "failed", "--delete", cwd=folder, MLFLOW_TRACKING_URI=theirs.tracking_uri)
        assert (done.code, done.err) == (0, ""), done
        assert "the server keeps the files of deleted runs and models until `mlflow gc` is run there" in done.out
        # The second time, none is left to mark.
        assert (f"tidy: removing run {failed}" in done.out) == done.out.endswith("1 run, 0 bytes marked as deleted\n")
    assert done.out.endswith("tidy: 0 runs, 0 bytes marked as deleted\n")


def check_files(theirs: mlflow.MlflowClient, copy_id: str, trained: Trained, folder: Path) -> None:
    """All artifacts, byte for byte."""
    source = trained.cwd / "mlruns" / "0" / trained.run_id / "artifacts"
    copy = Path(theirs.download_artifacts(copy_id, "", str(folder)))
    files = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    assert {path for path in files if sha256_file(copy / path) != sha256_file(source / path)} == set()


@pytest.mark.parametrize(
    ("server", "message"),
    [("http://127.0.0.1:9", "cannot use the server http://127.0.0.1:9: "), ("", "cannot use the server")],
)
def test_a_server_that_does_not_answer_is_one_line(server: str, message: str, trained: Trained) -> None:
    done = run_cli("push", server or "x://y", cwd=trained.cwd, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert (done.code, len(done.err.splitlines())) == (1, 1), done
    assert message in done.err


def test_the_store_in_use_is_no_place_to_copy_to(trained: Trained) -> None:
    done = run_cli("push", trained.store, cwd=trained.cwd)
    assert (done.code, len(done.err.splitlines())) == (2, 1), done
    assert "is the store in use" in done.err
