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
    yield store.connect()
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
