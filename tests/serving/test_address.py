"""Where a server says that it listens, and which store `ui` finds."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.errors import PipelineError
from pipeline.serving import ui
from pipeline.serving.address import cannot_serve, print_address
from pipeline.serving.ui import find_store
from pipeline.tracking import views


def test_a_server_for_this_machine_prints_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    print_address("demo", "127.0.0.1", 8000, "demo/index.html", "read all files")
    assert capsys.readouterr().out == "demo: http://127.0.0.1:8000/demo/index.html (press Ctrl-C to stop)\n"


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("192.0.2.7", "192.0.2.7")])
def test_a_server_for_others_warns_first(host: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_address("ui", host, 5000, "", "change all runs")
    assert capsys.readouterr().out.splitlines() == [
        f"ui: listening on {host}: anyone who can reach this machine there can change all runs",
        f"ui: http://{shown}:5000/ (press Ctrl-C to stop)",
    ]


@pytest.mark.parametrize("error", [OSError(98, "Address already in use"), ValueError("Address already in use")])
def test_the_reason_is_given_without_its_number(error: Exception) -> None:
    wanted = "cannot serve on ::1, port 80: Address already in use; choose another --host or --port"
    assert str(cannot_serve("::1", 80, error)) == wanted


def test_the_nearest_store_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    with pytest.raises(PipelineError, match=f"no mlflow.db in {inner} or any folder above it"):
        find_store(inner)
    for folder in (tmp_path, tmp_path / "a"):
        (folder / "mlflow.db").write_bytes(b"")
        assert find_store(inner) == f"sqlite:///{folder}/mlflow.db"


def test_the_page_of_the_ui_is_that_of_the_newest_run_with_its_view_if_it_has_one(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert ui.runs_page("postgresql://host/db") == ui.runs_page(uri)  # which is not there
    client = MlflowClient(uri)
    client.create_run("0")
    assert ui.runs_page(uri) == "#/experiments/0/runs?workflowType=machine_learning"
    experiment = client.create_experiment("other", tags={views.TAG: views.trainings()})
    client.create_run(experiment)
    assert ui.runs_page(uri) == "#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=trainings"
