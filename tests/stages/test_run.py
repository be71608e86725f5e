"""run, and the stages one by one: what they leave in MLflow, in the hand-off folder, and when they fail."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
import torch
from conftest import BEST_LOSS, PROJECT, TRAIN_LOSS, VALIDATION_LOSS, Cli, Trained, check_curve, write_digits
from mlflow.entities import Run
from PIL import Image

from pipeline.config import Config
from pipeline.data.prepared import load_prepared
from pipeline.reports import figures
from pipeline.tracking import names


def test_it_ends_with_what_a_person_wants_to_know(trained: Trained, run: Run) -> None:
    said = dict(re.findall(r"^(PSNR in|PSNR out|gain|hand-off|report) +(.+)$", trained.out, re.MULTILINE))
    scores = json.loads((artifacts(trained) / names.EVALUATION).read_text())["results"]["0.01"]
    values = [scores[name]["psnr"] for name in ("noisy", "clipped", "denoised")]
    assert said["PSNR in"] == f"{values[0]:.2f} dB, clipped to [0, 1] {values[1]:.2f} dB"
    assert said["PSNR out"] == f"{values[2]:.2f} dB"
    assert said["gain"] == f"{values[2] - values[1]:+.2f} dB over the clipped input"
    assert (trained.cwd / said["hand-off"]).samefile(trained.handoff)
    assert (trained.cwd / said["report"]).read_text().startswith("<!doctype html>")
    assert trained.out.endswith(f"\nrun: {trained.run_id}; look at it with: python -m pipeline ui\n")


@pytest.fixture
def run(trained: Trained) -> Run:
    return mlflow.MlflowClient(trained.store).get_run(trained.run_id)


MODEL_TAGS = (names.MODEL, names.NOISE, names.WEIGHTS, names.ONNX_SHA256, names.PARITY)


def artifacts(trained: Trained) -> Path:
    return trained.cwd / "mlruns" / "0" / trained.run_id / "artifacts"


def test_the_run_holds_parameters_metrics_and_tags(run: Run, trained: Trained) -> None:
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "autoencoder-digits-var0.01-seed0"
    assert run.data.params["variance"] == "0.01"
    assert run.data.params[names.PARAMETERS] == "16385"
    assert run.data.tags[names.VARIANCE] == "0.01"
    assert run.data.tags[names.PARITY] == "passed"
    assert run.data.tags[names.GIT_DIRTY] in ("true", "false")
    assert re.fullmatch("[0-9a-f]{40}", run.data.tags[names.GIT_COMMIT])
    note = run.data.tags[names.NOTE]
    assert re.search(r"16,385 parameters.*\d\d\.\d\d dB PSNR", note)
    # What comes next, too: where the file is, what it costs, how it is served.
    said = note.split("\n\n")[-1]
    assert said.startswith(f"Hand-off: `{trained.handoff.name}` (artifact `handoff`;")
    assert f"{run.data.metrics[names.MILLISECONDS]:.3g} ms for a test image" in said
    assert said.endswith(f"`mlflow models serve -m runs:/{trained.run_id}/denoiser --env-manager local --port 5001`")


def test_a_run_has_few_metrics_and_the_rest_in_a_file(run: Run, trained: Trained) -> None:
    assert sorted(run.data.metrics) == [
        *("best/epoch", "best/mse", "best/psnr", "images_per_second", "learning_rate", "onnxruntime/ms_per_image"),
        *("parity/max_abs_difference", "test/psnr", "test/psnr/0.001", "test/psnr/0.01", "test/psnr/0.1"),
        *("test/psnr_gain", "test/ssim", "train/mse", "train/seconds", "validation/mse", "validation/psnr"),
    ]
    results = json.loads((artifacts(trained) / names.EVALUATION).read_text())["results"]
    assert [*results] == ["0.001", "0.01", "0.1"]
    for of in results.values():
        assert [*of] == ["noisy", "clipped", "denoised"]
        assert all({"mse", "psnr", "psnr_pooled", "ssim"} == values.keys() for values in of.values())
    own = results["0.01"]
    assert own["noisy"]["psnr"] == pytest.approx(20.0, abs=0.1)
    assert run.data.metrics["test/psnr"] == run.data.metrics["test/psnr/0.01"] == own["denoised"]["psnr"]
    assert run.data.metrics["test/psnr_gain"] == own["denoised"]["psnr"] - own["clipped"]["psnr"] > 0


def test_results_of_one_number_have_no_step(trained: Trained) -> None:
    """The UI draws them as bars then, instead of as dots on an axis of steps."""
    client = mlflow.MlflowClient(trained.store)
    curves = {TRAIN_LOSS, VALIDATION_LOSS, names.VALIDATION_PSNR, names.LEARNING_RATE, names.IMAGES_PER_SECOND}
    metrics = client.get_run(trained.run_id).data.metrics
    points = {name: client.get_metric_history(trained.run_id, name) for name in metrics}
    assert {name for name, of in points.items() if any(point.step for point in of)} == curves
    assert {name for name, of in points.items() if len(of) > 1} == curves


def test_the_learning_curve_has_ten_points_at_least_and_every_epoch_is_validated(trained: Trained) -> None:
    client = mlflow.MlflowClient(trained.store)
    check_curve(client, trained.run_id, 6)
    losses = [point.value for point in client.get_metric_history(trained.run_id, VALIDATION_LOSS)]
    metrics = client.get_run(trained.run_id).data.metrics
    assert metrics[BEST_LOSS] == min(losses)
    assert metrics[names.BEST_EPOCH] == losses.index(min(losses)) + 1


def test_the_run_holds_figures_and_a_step_slider(trained: Trained) -> None:
    drawn = artifacts(trained) / names.FIGURES
    shown = {"denoised", "loss", "noise_levels", "psnr", "worst"}
    assert {path.name for path in drawn.iterdir()} == {f"{name}.{form}" for name in shown for form in ("png", "svg")}
    for path in drawn.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 300
            assert np.asarray(image.convert("L")).std() > 20  # not an empty canvas
    steps = [re.search(r"\+step\+(\d+)\+", path.name) for path in (artifacts(trained) / names.IMAGES).glob("*.png")]
    curve = check_curve(mlflow.MlflowClient(trained.store), trained.run_id, 6)
    assert sorted(int(step[1]) for step in steps if step) == [0, *curve]  # MLflow opens it at 0


def test_the_slider_shows_the_first_test_images_whatever_the_seed(trained: Trained, digits: np.ndarray) -> None:
    strips = sorted((artifacts(trained) / names.IMAGES).glob("*.png"))
    data = load_prepared(Config(dataset=str(trained.cwd / "digits"), data_dir=str(trained.cwd / "data")))
    first = figures.image_strip([torch.from_numpy(np.stack(list(data.test.images[:8]))).float() / 255])
    for path in strips:
        with Image.open(path) as image:
            assert (np.asarray(image)[-len(first) :] == first).all()


def test_every_test_image_has_its_scores_in_a_table(trained: Trained, run: Run) -> None:
    table = json.loads((artifacts(trained) / names.IMAGE_SCORES).read_text())
    assert table["columns"] == ["image", "psnr", "ssim", "psnr_gain"]
    rows = np.array(table["data"])
    assert (rows[:, 0] == np.arange(len(rows))).all()
    for column, name in enumerate(("psnr", "ssim", "psnr_gain"), 1):
        assert rows[:, column].mean() == pytest.approx(run.data.metrics[f"test/{name}"], abs=1e-4)
    assert json.loads(run.data.tags[names.LOGGED_ARTIFACTS]) == [{"path": names.IMAGE_SCORES, "type": "table"}]


def test_the_report_needs_nothing_else(trained: Trained, run: Run) -> None:
    content = (artifacts(trained) / names.REPORT).read_text()
    assert not re.search(r'(src|href)=(?!"data:)|<script|@import|url\(', content)
    assert content.count('src="data:image/svg+xml;') == 5  # in the colours of the page
    for said in (
        run.info.run_id,
        run.data.tags[names.WEIGHTS],
        f"{run.data.metrics[names.noise_metric('psnr', '0.01')]:.2f} dB",
        "passed all",
    ):
        assert said in content


def test_the_run_knows_its_data_by_a_digest_of_all_images(run: Run, trained: Trained) -> None:
    manifest = json.loads((artifacts(trained) / names.MANIFEST).read_text())
    assert run.data.tags[names.DATASET_SHA256] == manifest["digest"]
    inputs = {entry.dataset.name: entry.dataset for entry in run.inputs.dataset_inputs}
    assert set(inputs) == {"digits-train", "digits-test"}
    assert {dataset.digest for dataset in inputs.values()} == {manifest["digest"][:32]}


def test_the_onnx_file_is_an_mlflow_model(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", trained.store)
    mlflow.set_tracking_uri(trained.store)
    (model,) = mlflow.search_logged_models(experiment_ids=["0"], output_format="list")
    assert model.name == "denoiser"
    run = mlflow.get_run(trained.run_id)
    assert {key: model.tags[key] for key in MODEL_TAGS} == {key: run.data.tags[key] for key in MODEL_TAGS}
    found = {metric.key: metric for metric in model.metrics or []}
    assert found.keys() >= {VALIDATION_LOSS}
    for name in ("test/psnr", "test/psnr_gain", "test/ssim", "test/psnr/0.1", names.MILLISECONDS):
        metric, dataset = found[name], run.inputs.dataset_inputs[1].dataset
        assert (metric.value, metric.step) == (run.data.metrics[name], 0)
        assert (metric.dataset_name, metric.dataset_digest) == (dataset.name, dataset.digest)
    asked = [{"dataset_name": dataset.name, "dataset_digest": dataset.digest}]
    for least, count in ((found["test/psnr"].value - 1, 1), (found["test/psnr"].value + 1, 0)):
        models = mlflow.search_logged_models(
            experiment_ids=["0"],
            filter_string=f"metrics.`test/psnr` > {least} AND metrics.`{names.MILLISECONDS}` < 1e6",
            datasets=asked,
            order_by=[{"field_name": f"metrics.{names.MILLISECONDS}", "dataset_name": dataset.name}],
            output_format="list",
        )
        assert len(models) == count
    requirements = (Path(mlflow.artifacts.download_artifacts(model.model_uri)) / "requirements.txt").read_text()
    assert sorted(line.split("==")[0] for line in requirements.splitlines()) == [
        *("mlflow-skinny", "numpy", "onnx", "onnxruntime", "pandas")
    ]
    loaded = mlflow.pyfunc.load_model(model.model_uri)
    noisy = _golden(trained, "input_0")
    wanted = _golden(trained, "output_0")
    assert np.abs(loaded.predict({"noisy": noisy})["denoised"] - wanted).max() < 1e-5
    assert np.abs(loaded.predict(noisy[:1, :, :20, :13])["denoised"]).shape == (1, 1, 20, 13)
    kept = Path(mlflow.artifacts.download_artifacts(model.model_uri)) / "model.onnx"
    assert kept.read_bytes() == (trained.handoff / "model.onnx").read_bytes()


def test_the_stages_run_one_by_one_and_continue_the_same_run(cli: Cli, tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:300])
    assert cli("prepare", "--dataset", "digits").code == 0
    assert not (tmp_path / "mlflow.db").exists()  # prepare has no run of its own

    done = cli("evaluate")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "no finished training run" in done.err

    done = cli("train", "--dataset", "digits", "--epochs", 2, "--batch-size", 8)
    assert done.code == 0, done.err
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs(["0"])
    assert f"train: run {run.info.run_id}" in done.out

    done = cli("evaluate", "--run-id", "0" * 32)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert f"run {'0' * 32}: no such training run" in done.err

    done = cli("export", "--run-id", run.info.run_id)
    assert done.code == 1
    assert "was not evaluated; run: python -m pipeline evaluate" in done.err
    done = cli("export", "--dataset", "digits")
    assert done.code == 1
    assert "no finished and evaluated run on dataset 'digits' with gaussian noise of variance 0.01" in done.err

    ended = run.info.end_time
    done = cli("evaluate")
    assert done.code == 0, done.err
    assert client.get_run(run.info.run_id).info.end_time == ended
    assert f"evaluate: run {run.info.run_id}" in done.out
    done = cli("export", "--dataset", "digits", "--allow-worse")
    assert done.code == 0, done.err
    assert f"export: run {run.info.run_id}, autoencoder-digits-var0.01-seed0: test PSNR" in done.out
    assert "the only finished run on digits with gaussian noise of variance 0.01" in done.out
    assert (tmp_path / "artifacts" / "autoencoder-digits-var0.01-seed0" / "SHA256SUMS").is_file()
    (run,) = client.search_runs(["0"])
    assert run.info.status == "FINISHED"
    assert run.data.tags[names.PARITY] == "passed"

    _export_again(cli, tmp_path, run)
    _export_with_another_psnr(cli, tmp_path, run, client)


def _export_again(cli: Cli, folder: Path, run: Run) -> None:
    """It gives the same file, byte for byte, and does not replace a folder that is not a hand-off."""
    handoff = folder / "artifacts" / "again"
    assert cli("export", "--run-id", run.info.run_id, "--name", "again", "--allow-worse").code == 0
    first = folder / "artifacts" / "autoencoder-digits-var0.01-seed0" / "model.onnx"
    assert (handoff / "model.onnx").read_bytes() == first.read_bytes()

    (folder / "artifacts" / "mine").mkdir()
    done = cli("export", "--run-id", run.info.run_id, "--name", "mine", "--allow-worse")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "is not a hand-off folder" in done.err


def _export_with_another_psnr(cli: Cli, folder: Path, run: Run, client: mlflow.MlflowClient) -> None:
    """A run whose metrics are not those of the file: exit code 3, the report in the run, the old folder untouched."""
    handoff = folder / "artifacts" / "again"
    metric = names.test_metric("psnr")
    client.log_metric(run.info.run_id, metric, run.data.metrics[metric] + 0.01, step=10**6)
    before = (handoff / "manifest.json").read_bytes()
    done = cli("export", "--run-id", run.info.run_id, "--name", "again", "--allow-worse")
    assert (done.code, len(done.err.splitlines())) == (3, 1)
    assert "PSNR as logged by evaluate" in done.err
    assert (handoff / "manifest.json").read_bytes() == before
    assert [path.name for path in (folder / "artifacts").iterdir() if path.name.startswith(".")] == []
    (run,) = client.search_runs(["0"])
    assert run.data.tags[names.PARITY] == "failed"
    assert run.info.status == "FINISHED"
    said = done.err.strip().removeprefix("Error: ")
    assert run.data.tags[names.ERROR] == said
    assert run.data.tags[names.NOTE].startswith(f"Failed: {said}\n\nautoencoder")
    assert client_artifact(client, run.info.run_id, names.TRACEBACK).read_text().endswith(f"ParityError: {said}\n")
    report = json.loads(client_artifact(client, run.info.run_id, names.PARITY_JSON).read_text())
    assert report["passed"] is False


def test_a_training_that_ctrl_c_stopped_is_marked_as_killed(tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:100])
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", "--dataset", "digits", "--epochs", "4999"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "train: epoch" in line:  # the first that is validated
                break
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1].splitlines()[-1]
    assert process.returncode == 130
    (run,) = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").search_runs(["0"])
    assert run.info.status == "KILLED"
    assert not (tmp_path / "artifacts").exists()
    run_id = run.info.run_id
    resume = f"python -m pipeline run --resume {run_id}"
    assert said == f"Stopped by SIGINT; resume with: {resume}"
    assert run.data.tags[names.NOTE] == f"Killed: by SIGINT; continue with: {resume}"
    artifacts = tmp_path / "mlruns" / "0" / run_id / "artifacts"
    assert (artifacts / names.TRACEBACK).read_text().splitlines()[-2:] == [
        "pipeline.signals.Stopped: SIGINT",
        f"resume with: {resume}",
    ]
    assert (artifacts / names.CONSOLE).read_text().endswith("Stopped by SIGINT\n")


def client_artifact(client: mlflow.MlflowClient, run_id: str, path: str) -> Path:
    root = client.get_run(run_id).info.artifact_uri
    return Path(root.removeprefix("file://")) / path


def _golden(trained: Trained, name: str) -> np.ndarray:
    return onnx.numpy_helper.to_array(onnx.load_tensor(str(trained.handoff / "test_data_set_0" / f"{name}.pb")))


def test_a_handoff_that_was_logged_before_a_kill_but_not_yet_in_place_is_not_logged_again(
    trained: Trained, tmp_path: Path, cli: Cli
) -> None:
    export = ("export", "--run-id", trained.run_id, "--variant", "uint8,int8,fp16", "--name", "small")
    done = cli(*export, "--artifacts-dir", tmp_path, cwd=trained.cwd)
    assert (done.code, done.err) == (0, ""), done
    assert f"export: {tmp_path / 'small'}: what run {trained.run_id} has logged, verified" in done.out
    sums = "SHA256SUMS"
    assert (tmp_path / "small" / sums).read_bytes() == (trained.handoff / sums).read_bytes()
    client = mlflow.MlflowClient(trained.store)
    assert len(client.search_logged_models(["0"])) == 1
    assert len(client.get_metric_history(trained.run_id, names.MILLISECONDS)) == 1
