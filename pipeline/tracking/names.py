"""What runs call their tags, parameters, metrics and artifacts: the one vocabulary of writers, readers and tests.

Stores of earlier versions hold these very texts, so a name that is changed here makes their runs unreadable.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any

DATABASE = "mlflow.db"  # the file of the store, in the current folder, where no store is named

# Tags of a training run: what it was given.
DATASET = "dataset"
MODEL = "model"  # with its size, such as `unet-s`
NOISE = "noise"  # as `KIND:key=value`
VARIANCE = "variance"
TARGET = "target"
SEED = "seed"
HANDOFF_OPTIONS = "handoff.options"  # how `run` hands off: JSON, so that a resumed run does it in the same way
START = "start"  # id of the run whose weights the training started from
START_WEIGHTS = "start.weights"  # their digest
DATASET_SHA256 = "dataset.sha256"  # of all prepared images
TEST_IMAGES_SHA256 = "dataset.test.sha256"

# Tags of a training run: what came out.
WEIGHTS = "weights"  # digest of the best epoch's; a run that has this tag is trained
EVALUATION_SHA256 = "test.sha256"  # of the artifact `EVALUATION`
QUALITY = "quality"  # "better" or "worse" than doing nothing, at the training noise
PARITY = "parity"  # "passed" or "failed"
ONNX_SHA256 = "model.onnx.sha256"
MODEL_ID = "model_id"  # of the logged model

# Tags of a training run: where it ran, and how it ended.
DEVICE = "device"
PRECISION = "precision"
PROCESSES = "processes"
PYTHON = "python"
TORCH = "torch"
HOST = "host"
FOLDER = "folder"  # on that host
INTERRUPTED = "interrupted"  # by what; "" if it was resumed
RESUMABLE = "resumable"  # "true" or "false"
ERROR = "error"  # why it failed, in one line; "" if it was resumed
# What the description begins with where a run failed, was interrupted, or has a model that is not good enough.
FAILED, KILLED, REFUSED = "Failed: ", "Killed: ", "No hand-off: "
HANDED_OFF = "Hand-off: "  # what the paragraph of the description about it begins with

# Tags that tie runs together.
PARENT = "mlflow.parentRunId"  # id of the run that this one is part of
CONTINUES = "continues"  # id of the run that the results went to
TRIALS = "trials"  # on a sweep or a search: how many it is to have
TRIAL = "trial"  # name of the trial of a sweep that this run is
PRUNED = "pruned"  # "true" on a trial that was stopped because others did better
BEST_RUN = "best.run_id"  # on a search: id of its best trial
TEST_IMAGES = "test.images"  # on a classical denoiser: on how many images it was scored

# Tags of a run, and of a model, that `push` has copied from another store.
COPY_OF = "copy.of"  # ID of the original
COPIED = "copy.digest"  # of what the original was when all of it was copied

# Tags that MLflow gives a meaning.
RUN_NAME = "mlflow.runName"
NOTE = "mlflow.note.content"  # the description in the UI, Markdown
GIT_COMMIT = "mlflow.source.git.commit"
GIT_DIRTY = "mlflow.source.git.dirty"  # whether the source was edited since the commit
SOURCE_TYPE = "mlflow.source.type"  # "PROJECT" under `mlflow run`
LOGGED_ARTIFACTS = "mlflow.loggedArtifacts"  # JSON: which artifacts are tables, so that the UI shows them as such
LOGGED_IMAGES = "mlflow.loggedImages"  # "True" makes the UI show the step slider
EXPERIMENT_KIND = "mlflow.experimentKind"  # of an experiment: makes the UI show training runs instead of asking
TRAININGS_VIEW = "trainings"  # key of the view of an experiment that `ui` opens, see `views`
DATASET_CONTEXT = "mlflow.data.context"  # of a dataset of a run: "training" or "testing"

# Tags of a version of a registered model, besides those above.
RUN = "run"  # id of the run that made it
PROMOTED = "promoted"  # why it became the champion
FORCED = "promoted.forced"  # "true" or "false"

# Parameters: the fields of `pipeline.config.Config`, and
PARAMETERS = "parameters"  # how many the model has

# Metrics, besides the loss (`loss_metric`) and the test scores (`test_metric`, `noise_metric`).
VALIDATION_PSNR = "validation/psnr"
LEARNING_RATE = "learning_rate"
IMAGES_PER_SECOND = "images_per_second"
TRAIN_SECONDS = "train/seconds"
BEST_EPOCH = "best/epoch"
BEST_PSNR = "best/psnr"  # on the validation images
MAX_ABS_DIFFERENCE = "parity/max_abs_difference"  # between torch and the exported file
MILLISECONDS = "onnxruntime/ms_per_image"  # that the exported file takes on one thread

# Artifacts of a training run.
CONFIG = "config.json"
MANIFEST = "dataset.json"  # of the prepared data
INSPECTION = "dataset.html"  # the page about the prepared images, where they are from a folder
CHECKPOINT = "checkpoints/best.pt"
START_CHECKPOINT = "checkpoints/start.pt"  # the weights that the training started from, if these were another model's
EVALUATION = "test.json"  # what `evaluate` found
IMAGE_SCORES = "images.json"  # a table: the scores of every test image with the noise of the training
SAMPLES = "samples.npz"  # the images that it showed, as arrays called `SAMPLE`
SAMPLE = "clean", "noisy", "denoised"
REPORT = "report.html"
CONSOLE = "console.log"  # what was printed
TRACEBACK = "traceback.txt"  # of what it failed with last
ENVIRONMENT = "environment.json"  # the machine and the packages
SOURCE_DIFF = "source.diff"  # how the source was edited since the commit
HANDOFF = "handoff"  # the folder
PARITY_JSON = "parity/parity_report.json"
PARITY_MARKDOWN = "parity/parity_report.md"
FIGURES = "figures"  # the folder of all figures
IMAGES = "images"  # the folder of the step slider

# Artifacts of a run that compares others.
COMPARISON = "comparison"  # the folder of `compare`
COMPARISON_PAGE = "comparison.html"
SWEEP = "sweep"  # the figure of a sweep
SWEEP_TABLE = "sweep.md"
BEST_CONFIG = "best.json"  # of a search

# A logged model, and the aliases of its versions.
DENOISER = "denoiser"
ONNX = "model.onnx"  # the file in it; `pipeline.verification.folder`, which stands alone, has the same
CHAMPION, PREVIOUS = "champion", "previous"


# What the loss is called of which no two need mean the same: that of the training images, of the validation images, and
# the latter at the best epoch.
TRAIN, VALIDATION, BEST = "train", "validation", "best"
_LOSSES = {"psnr": "minus_psnr"}  # `validation/psnr` is the PSNR itself
FORMER_LOSSES = {TRAIN: "train/loss", VALIDATION: "validation/loss", BEST: "best/validation_loss"}


RESULTS = "test/", "parity/", "onnxruntime/"  # what the metrics begin with that a logged model has, too


def logged_dataset(name: str, part: str, digest: str) -> dict[str, str]:
    """How MLflow knows the `train` or `test` part of a dataset with this digest, of which it keeps 36 characters."""
    return {"name": f"{name}-{part}", "digest": digest[:32]}


def loss_metric(of: str, params: Mapping[str, Any], known: Container[str] = ()) -> str:
    """Name of the loss, which says what is minimised: `train/mse`; with the target `sure`, it is `train/mse_sure`.

    Args:
        of: `TRAIN`, `VALIDATION` or `BEST`.
        params: of the run, `loss` and `target` among them.
        known: the metrics that the run has; if the loss is there by the name that former versions gave it, it is that.
    """
    loss, target = params.get("loss", "mse"), params.get("target", "clean")
    name = f"{of}/{_LOSSES.get(loss, loss)}{'' if target == 'clean' else f'_{target}'}"
    return FORMER_LOSSES[of] if FORMER_LOSSES[of] in known and name not in known else name


def test_metric(name: str) -> str:
    """Name of a test metric with the noise that the run was trained for, such as `test/psnr`."""
    return f"test/{name}"


def noise_metric(name: str, label: str) -> str:
    """Name of a test metric with the noise of a label, such as `test/psnr/0.01`; sorts by metric, then by noise."""
    return f"test/{name}/{label}"


def other_data_metric(data: str, name: str, label: str) -> str:
    """Name of a metric on images of another kind, such as `test-fashion-mnist/psnr/0.01`."""
    return f"test-{data}/{name}/{label}"


def other_data_tag(data: str, label: str) -> str:
    """The tag of a run whose model is "better" or "worse" than doing nothing on images of another kind."""
    return f"{QUALITY}.{data}.{label}"


def other_data_file(data: str) -> str:
    """The artifact that holds what `evaluate --dataset` found."""
    return f"test-{data}.json"


def is_taken(tag: str) -> bool:
    """Whether a name means something to this pipeline or to MLflow, so that a user's own tag must not have it."""
    prefixes = ("mlflow.", fingerprint_tag(""), choice_tag(""), f"{QUALITY}.")
    return tag in [value for value in globals().values() if isinstance(value, str)] or tag.startswith(prefixes)


def metric_text(name: str) -> str:
    """`name` with what MLflow does not allow in the name of a metric replaced by `-`."""
    return re.sub(r"[^\w. -]", "-", name)


def fingerprint_tag(stage: str) -> str:
    """The tag of a run that holds the digest of a stage's fingerprint."""
    return f"fingerprint.{stage}"


def fingerprint_file(stage: str) -> str:
    """The artifact of a run that holds a stage's fingerprint."""
    return f"fingerprints/{stage}.json"


def figure_file(name: str) -> str:
    """The artifact of a run that holds a figure."""
    return f"{FIGURES}/{name}.png"


def drawing_file(name: str) -> str:
    """The artifact of a run that holds the same figure as an SVG file."""
    return f"{FIGURES}/{name}.svg"


def choice_tag(trial: str) -> str:
    """The tag of a search that holds what was chosen for a trial, and its run; the prefix of these tags for ""."""
    return f"trial.{trial}"


def version_tag(metric: str, label: str) -> str:
    """The tag of a model's version that holds a test metric, such as the PSNR in dB, at the noise of a label."""
    return f"{metric}.{re.sub(r'[^A-Za-z0-9_.-]', '-', label)}"
