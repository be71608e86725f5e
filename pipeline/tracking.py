"""Everything that talks to MLflow."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before mlflow is imported: no pickle is ever read back.
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
# A server that does not answer is told of after some 15 seconds, not after four minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")

import mlflow
import numpy as np
from filelock import FileLock
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from pipeline.config import Config
from pipeline.data import PreparedData
from pipeline.errors import PipelineError
from pipeline.noise import Noise

if TYPE_CHECKING:
    import onnx
    from matplotlib.figure import Figure

_CONFIG = "config.json"
_RANDOM_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")  # what MLflow calls a run that nobody named


def noise_metric(name: str, label: str) -> str:
    """Name of a test metric with the noise of a label, such as `test/psnr/0.01`; sorts by metric, then by noise."""
    return f"test/{name}/{label}"


def metric_text(name: str) -> str:
    """`name` with what MLflow does not allow in the name of a metric replaced by `-`."""
    return re.sub(r"[^\w. -]", "-", name)


class Run:
    """An MLflow run that is open: what the stages write to. Made by `start_run` and `continue_run`."""

    def __init__(self, run_id: str) -> None:
        self.id = run_id

    def log_config(self, config: Config) -> None:
        """Keep the config: `config.json` for programs, parameters and tags for the UI."""
        mlflow.log_text(config.to_json(), _CONFIG)
        self.log_params(asdict(config))
        # A parameter that `mlflow run` logged keeps the text that the user typed ("1e-2"); tags are canonical.
        noise = config.training_noise
        mlflow.set_tags(
            {
                "dataset": config.dataset,
                "model": config.model_name,
                "noise": noise.spec,
                **({"variance": str(noise.variance)} if hasattr(noise, "variance") else {}),
                "target": config.target,
                "seed": config.seed,
                **_git_tags(),
            }
        )

    def log_params(self, params: dict[str, Any]) -> None:
        """Log what is not logged yet: `mlflow run` logs the parameters first, and they can't be changed."""
        known = mlflow.get_run(self.id).data.params
        mlflow.log_params({key: value for key, value in params.items() if key not in known})

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        mlflow.log_metrics(metrics, step=step)

    def log_scores(self, results: Mapping[str, Mapping[str, Mapping[str, float]]], step: int | None = None) -> None:
        """Log `{label of the noise: {denoiser: {metric: mean}}}`; the metrics of `denoised` go by their bare names."""
        self.log_metrics(
            {
                noise_metric(metric if denoiser == "denoised" else f"{metric}_{denoiser}", label): value
                for label, of in results.items()
                for denoiser, values in of.items()
                for metric, value in values.items()
            },
            step,
        )

    def metrics(self) -> dict[str, float]:
        """The last value of every metric of the run."""
        return mlflow.get_run(self.id).data.metrics

    def steps(self, metric: str) -> set[int]:
        """The steps at which `metric` was logged."""
        return {entry.step for entry in mlflow.MlflowClient().get_metric_history(self.id, metric)}

    def tag(self, name: str) -> str | None:
        """The value of a tag of the run, or None."""
        return mlflow.get_run(self.id).data.tags.get(name)

    def facts(self) -> dict[str, Any]:
        """What a table says of the run: its id, the number of parameters, and the seconds that training took."""
        data = mlflow.get_run(self.id).data
        return {
            "id": self.id,
            "parameters": int(data.params["parameters"]),
            "seconds": data.metrics["train/seconds"],
        }

    def log_tags(self, tags: dict[str, str]) -> None:
        mlflow.set_tags(tags)

    def describe(self, text: str) -> None:
        """Set the description that the UI shows (Markdown)."""
        mlflow.set_tag("mlflow.note.content", text)

    def log_dataset(self, data: PreparedData, name: str) -> None:
        """Register `data` as `name`, under the digest of all its images (MLflow's own covers about twelve digits)."""
        source = CodeDatasetSource({"origin": data.manifest["origin"], "licence": data.manifest["licence"]})
        for part in ("train", "test"):
            images = getattr(data, part)
            size = (images.shape[2:]) if isinstance(images, np.ndarray) else (-1, -1)
            dataset = MetaDataset(
                source,
                name=f"{name}-{part}",
                digest=data.digest[:32],  # MLflow keeps 36 characters
                schema=Schema([TensorSpec(np.dtype("uint8"), (-1, images[0].shape[0], *size), "clean")]),
            )
            mlflow.log_input(dataset, context={"train": "training", "test": "testing"}[part])
        mlflow.log_dict(data.manifest, "dataset.json")
        mlflow.set_tag("dataset.sha256", data.digest)

    def log_figure(self, figure: Figure, name: str) -> None:
        """Keep a figure as `figures/<name>.png`."""
        mlflow.log_figure(figure, f"figures/{name}.png", save_kwargs={"dpi": 150})

    def log_image(self, pixels: np.ndarray, key: str, step: int) -> None:
        """Add an image, uint8 [H, W] or [H, W, 3], to the step slider called `key`."""
        # Synchronous, because MLflow would write it in a background thread and lose it if the process ends.
        mlflow.log_image(pixels, key=key, step=step, synchronous=True)

    def log_dict(self, value: dict[str, Any], path: str) -> None:
        mlflow.log_dict(value, path)

    def log_text(self, text: str, path: str) -> None:
        mlflow.log_text(text, path)

    def log_file(self, path: Path, folder: str | None = None) -> None:
        mlflow.log_artifact(str(path), folder)

    def log_folder(self, path: Path, folder: str) -> None:
        mlflow.log_artifacts(str(path), folder)

    @contextmanager
    def artifact(self, path: str) -> Iterator[Path]:
        """A local copy of an artifact of this run, removed afterwards.

        Raises:
            PipelineError: the run has no such artifact.
        """
        with tempfile.TemporaryDirectory() as folder:
            try:
                copy = mlflow.artifacts.download_artifacts(f"runs:/{self.id}/{path}", dst_path=folder)
            except (MlflowException, OSError) as error:
                raise PipelineError(f"run {self.id} has no artifact {path}: {first_line(error)}") from error
            yield Path(copy)

    def log_onnx(
        self,
        model: onnx.ModelProto,
        example: np.ndarray,
        *,
        loader: Path,
        step: int,
        requirements: list[str],
        metadata: dict[str, Any],
        extra_files: list[Path],
    ) -> str:
        """Log an ONNX model under the name `denoiser` and return its id.

        Args:
            model: freshly read from its file; MLflow may change it in place.
            example: noisy images, float32 [N, C, H, W].
            loader: a module that MLflow loads the model with when it serves it, or as a pyfunc.
            step: the epoch that the weights are from; metrics logged at this step are linked to the model.
            requirements: what a consumer installs, pinned.
            metadata: stored with the model.
            extra_files: copied beside the model.
        """
        signature = ModelSignature(
            *(
                Schema([TensorSpec(np.dtype("float32"), (-1, example.shape[1], -1, -1), name)])
                for name in ("noisy", "denoised")
            )
        )
        info = Model.log(
            artifact_path=None,
            name="denoiser",
            flavor=_OnnxWithLoader,
            flavor_name="mlflow.onnx",
            onnx_model=model,
            code_paths=[str(loader)],
            signature=signature,
            input_example={"noisy": example},
            pip_requirements=requirements,
            onnx_execution_providers=["CPUExecutionProvider"],
            save_as_external_data=False,
            extra_files=[str(path) for path in extra_files],
            metadata=metadata,
            step=step,
        )
        return info.model_id

    @contextmanager
    def logged_model(self, model_id: str) -> Iterator[Path]:
        """A local copy of a logged model's folder, removed afterwards."""
        with tempfile.TemporaryDirectory() as folder:
            yield Path(mlflow.artifacts.download_artifacts(f"models:/{model_id}", dst_path=folder))


class _OnnxWithLoader:
    """MLflow's ONNX flavor, but as a pyfunc the model is loaded by the one module in its `code` folder."""

    @staticmethod
    def save_model(path: str, mlflow_model: Model, code_paths: list[str], **options: Any) -> None:
        mlflow.onnx.save_model(path=path, mlflow_model=mlflow_model, code_paths=code_paths, **options)
        mlflow_model.flavors["python_function"]["loader_module"] = Path(code_paths[0]).stem
        mlflow_model.save(str(Path(path) / "MLmodel"))


@contextmanager
def start_run(config: Config) -> Iterator[Run]:
    """Open a new run, or the one that `mlflow run` has made for this process, and log the config to it.

    Inside another run it becomes a child of that. It ends as FINISHED, as FAILED after an exception, as KILLED after
    Ctrl-C.
    """
    with _start(config.run_name) as run:
        run.log_config(config)
        yield run


@contextmanager
def start_comparison(name: str) -> Iterator[Run]:
    """Open a run that holds no model of its own: those that are started inside it become its children."""
    with _start(name) as run:
        yield run


@contextmanager
def start_baseline(name: str, dataset: str, images: int) -> Iterator[Run]:
    """Open a run for a denoiser that is not trained, scored on the first `images` test images of `dataset`."""
    with _start(f"{name}-{images}-images") as run:
        mlflow.set_tags({"dataset": dataset, "model": name, "test.images": str(images), **_git_tags()})
        yield run


@contextmanager
def _start(name: str) -> Iterator[Run]:
    connect()
    with _open(mlflow.start_run(nested=True)) as run:
        given = mlflow.get_run(run.id).info.run_name
        if given is None or _RANDOM_NAME.fullmatch(given):
            mlflow.set_tag("mlflow.runName", name)
        # Tells MLflow's UI to show training runs, instead of asking what the experiment is for.
        experiment = mlflow.get_run(run.id).info.experiment_id
        mlflow.MlflowClient().set_experiment_tag(experiment, "mlflow.experimentKind", "custom_model_development")
        yield run


@contextmanager
def project_run() -> Iterator[Run]:
    """Open the run that `mlflow run` has made for this process, to log what a stage without a run of its own found."""
    connect()
    with _open(mlflow.start_run()) as run:
        yield run


def store() -> str:
    """Address of the tracking store."""
    return mlflow.get_tracking_uri()


@contextmanager
def continue_run(run_id: str) -> Iterator[tuple[Run, Config]]:
    """Open the finished run `run_id` again, to add to it. Its status and its end stay what they were, whatever happens.

    Raises:
        PipelineError: there is no such run, or it was not made by this pipeline.
    """
    connect()
    config = read_config(run_id)
    info = mlflow.get_run(run_id).info
    # Under `mlflow run`, MLflow has made a run for this process: let it say where the results went.
    own_run = os.environ.pop("MLFLOW_RUN_ID", None)
    if own_run and own_run != run_id:
        note = f"Continues run {run_id}: the results are there."
        for key, value in {"continues": run_id, "mlflow.note.content": note}.items():
            mlflow.MlflowClient().set_tag(own_run, key, value)
    try:
        with _open(mlflow.start_run(run_id=run_id)) as run:
            yield run, config
    finally:
        mlflow.MlflowClient().set_terminated(run_id, info.status, info.end_time)


@contextmanager
def resume_run(run_id: str) -> Iterator[Run]:
    """Open the run `run_id`, which was interrupted, again. It ends like one that was opened by `start_run`.

    Raises:
        PipelineError: it is finished.
    """
    if mlflow.get_run(run_id).info.status == "FINISHED":
        raise PipelineError(f"--resume {run_id}: that run is finished")
    with _open(mlflow.start_run(run_id=run_id)) as run:
        yield run


def read_config(run_id: str) -> Config:
    """The config that a training run was made with.

    Raises:
        PipelineError: there is no such run, or it was not made by this pipeline.
    """
    try:
        return Config.from_json(mlflow.artifacts.load_text(f"runs:/{run_id}/{_CONFIG}"))
    except (MlflowException, OSError, ValueError, TypeError) as error:
        raise PipelineError(f"run {run_id}: no such training run: {first_line(error)}") from error


def newest_run() -> str:
    """The id of the newest finished training run of the experiment.

    Raises:
        PipelineError: there is none.
    """
    runs = _finished_runs()
    if not runs:
        raise PipelineError(f"{_experiment()} has no finished training run; run: python -m pipeline train")
    return runs[0].info.run_id


@dataclass(frozen=True)
class Choice:
    """A run, and why it was chosen."""

    run_id: str
    reason: str


def best_run(dataset: str, noise: Noise) -> Choice:
    """The finished run with the highest test PSNR among those trained on `dataset` with `noise`.

    Only these can be compared: with another noise, or on other images, the same PSNR means something else.

    Raises:
        PipelineError: there is none.
    """
    metric = noise_metric("psnr", noise.label)
    runs = [
        run
        for run in _finished_runs()
        if run.data.tags.get("dataset") == dataset
        and run.data.tags.get("noise") == noise.spec
        and metric in run.data.metrics
    ]
    if not runs:
        raise PipelineError(
            f"{_experiment()} has no finished and evaluated run on dataset '{dataset}' with {noise.description}; "
            "name a run with --run-id, or choose another --dataset, --noise or --variance"
        )
    best = max(runs, key=lambda run: run.data.metrics[metric])
    psnr, count = best.data.metrics[metric], len(runs)
    among = "the only finished run" if count == 1 else f"the highest of {count} finished runs"
    return Choice(
        best.info.run_id,
        f"{best.info.run_name}: test PSNR {psnr:.2f} dB, {among} on {dataset} with {noise.description}",
    )


@contextmanager
def _open(active: mlflow.ActiveRun) -> Iterator[Run]:
    try:
        yield Run(active.info.run_id)
    except BaseException as error:
        status = RunStatus.FAILED if isinstance(error, Exception) else RunStatus.KILLED
        mlflow.end_run(RunStatus.to_string(status))
        raise
    mlflow.end_run()


def connect() -> None:
    """Settle which store is used, and create it under a lock if it is a new SQLite file."""
    for name in ("alembic", "mlflow.store.db.utils"):  # they tell of every migration of a new database
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="sqlalchemy|mlflow")
    if "MLFLOW_TRACKING_URI" not in os.environ:
        # MLflow's own default, spelled out: an old `mlruns` folder would turn it into a store that it refuses.
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    uri = mlflow.get_tracking_uri()
    try:
        if uri.startswith("sqlite:///"):
            # Two processes that create the tables at once trip over each other.
            database = uri.removeprefix("sqlite:///").partition("?")[0]
            Path(database).parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{database}.lock"):
                mlflow.search_experiments(max_results=1)
        else:
            mlflow.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        raise PipelineError(f"cannot use the tracking store {uri}: {first_line(error)}") from error


def _finished_runs() -> list[Any]:
    """Those that have a checkpoint, newest first."""
    connect()
    client = mlflow.MlflowClient()
    experiment = _experiment_id()
    runs: list[Any] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment],
            "attributes.status = 'FINISHED' AND tags.weights != ''",
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        runs.extend(page)
        token = page.token
        if not token:
            return runs


def _experiment_id() -> str:
    if "MLFLOW_EXPERIMENT_ID" in os.environ:
        return os.environ["MLFLOW_EXPERIMENT_ID"]
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is None:
        raise PipelineError(f"experiment '{name}' does not exist in {mlflow.get_tracking_uri()}")
    return experiment.experiment_id


def _experiment() -> str:
    return f"experiment '{mlflow.get_experiment(_experiment_id()).name}'"


def _git_tags() -> dict[str, str]:
    """Commit of the running source, and whether it was edited since; nothing where it is not in a git checkout."""

    def git(*arguments: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "tracking.py")  # an installed copy may lie inside someone else's checkout
        return {
            "mlflow.source.git.commit": git("rev-parse", "HEAD"),
            "mlflow.source.git.dirty": str(bool(git("status", "--porcelain", "--", "."))).lower(),
        }
    except (OSError, subprocess.SubprocessError):
        return {}


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
