"""What was sent already can be sent again: a process that is killed in between does not know that it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.tracking import names, store
from pipeline.tracking.to_mlflow import send


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    store.connect.cache_clear()
    yield store.connect(create=True)
    store.connect.cache_clear()


def test_results_that_a_model_has_already_can_be_sent(client: MlflowClient, tmp_path: Path) -> None:
    run_id = client.create_run("0").info.run_id
    model = client.create_logged_model("0", names.DENOISER, run_id)
    client.set_tag(run_id, names.MODEL_ID, model.model_id)
    client.log_metric(run_id, "test/psnr", 30.0, model_id=model.model_id)  # as MLflow links what is logged later
    event = {"kind": "results", "dataset": {"name": "digits-test", "digest": "0"}, "metrics": ["test/psnr"]}
    for _ in range(2):
        send(run_id, tmp_path, [event])
    assert [metric.value for metric in client.get_logged_model(model.model_id).metrics] == [30.0]


def test_what_a_killed_copy_left_goes_when_it_is_sent_again(client: MlflowClient, tmp_path: Path) -> None:
    run_id = client.create_run("0").info.run_id
    (tmp_path / "handoff" / "samples").mkdir(parents=True)
    for path in ("handoff/samples/0.png", "handoff/card.md"):
        (tmp_path / path).write_bytes(b"content")
    event = {"kind": "artifact", "file": "handoff", "path": "handoff"}
    send(run_id, tmp_path, [event])
    stored = Path(client.get_run(run_id).info.artifact_uri) / "handoff"
    for folder in (stored, stored / "samples"):
        (folder / ".artifact.uploading.a1b2c3d4").write_bytes(b"cont")  # as MLflow calls it
    send(run_id, tmp_path, [event])
    assert {path.name for path in stored.rglob("*")} == {"samples", "0.png", "card.md"}
