"""An MLflow run that is open: whatever is logged to it is on disk at once, and in the store soon after."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from pipeline.config import Config
from pipeline.data.prepared import PreparedData
from pipeline.errors import PipelineError
from pipeline.files import read_json, writing
from pipeline.text import say
from pipeline.tracking import endings, names, store
from pipeline.tracking.event_log import Event
from pipeline.tracking.fingerprint import Fingerprint, describe_changes, digest
from pipeline.tracking.git import git_tags
from pipeline.tracking.known import Known
from pipeline.tracking.spool import Spool

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import RunData

_THUMBNAIL = (256, 256)  # pixels, of an image in the step slider


class OpenRun:
    """An MLflow run that is open: the stages write to it, and read what was written.

    Only the methods that say so wait for the store. Made by the functions in `opening`.
    """

    def __init__(self, run_id: str, folder: Path, spool: Spool, data: RunData) -> None:
        """Wrap a run whose folder is locked.

        Args:
            run_id: of the run.
            folder: what this machine keeps of the run until it is over.
            spool: on the way to the store; what is still in it counts as logged.
            data: what the store has of the run.
        """
        self.id = run_id
        self.folder = folder
        self._spool = spool
        self._group: list[Event] | None = None
        self._known = Known.of(data)
        for event in spool.events:
            self._known.add(event, self._spool.folder)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Log what is logged inside as one group: all of it, figures and files too, or nothing.

        Nothing, if the process dies inside, or an exception leaves it. A group inside another is part of that.
        """
        if self._group is not None:
            yield
            return
        before = deepcopy(self._known)
        self._group = []
        try:
            yield
            group, self._group = self._group, None
            self._append(*group)
        except BaseException:
            self._known = before
            raise
        finally:
            self._group = None

    def log_config(self, config: Config) -> None:
        """Log the config: as `config.json` for programs, as parameters and tags for the UI.

        Raises:
            PipelineError: the store does not take it. Without it, nothing can continue the run.
        """
        # A parameter that `mlflow run` logged keeps the text that the user typed ("1e-2"); tags are canonical.
        noise = config.training_noise
        unclipped = getattr(noise, "noise", noise)
        with self.together():
            self.log_text(config.to_json(), names.CONFIG)
            self.log_params(asdict(config))
            self.log_tags(  # in the order of the columns of the UI, where those that come first are in sight
                {
                    names.MODEL: config.model_name,
                    **({names.VARIANCE: str(unclipped.variance)} if hasattr(unclipped, "variance") else {}),
                    names.SEED: str(config.seed),
                    names.DATASET: config.dataset,
                    names.NOISE: noise.spec,
                    names.TARGET: config.target,
                    **git_tags(),
                }
            )
        if not self._spool.flush():
            raise PipelineError(f"the tracking store {store.uri()} did not take the config of run {self.id}")

    def log_params(self, params: dict[str, Any]) -> None:
        """Log those that are not logged yet: `mlflow run` logs the parameters first, and they cannot be changed."""
        self._values(params={key: str(value) for key, value in params.items() if key not in self._known.params})

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log points of curves at a step; one-number results at none, so that the UI draws them as bars."""
        self._values(metrics={key: float(value) for key, value in metrics.items()}, step=step)

    def log_tags(self, tags: dict[str, str]) -> None:
        self._values(tags=tags)

    def describe(self, text: str) -> None:
        """Set the description that the UI shows (Markdown)."""
        self.log_tags({names.NOTE: text})

    def metrics(self) -> dict[str, float]:
        """The last value of every metric of the run."""
        return dict(self._known.metrics)

    def steps(self, metric: str) -> set[int]:
        """The steps at which `metric` was logged. Asks the store."""
        history = store.ask(f"run {self.id}", lambda: store.connect().get_metric_history(self.id, metric))
        return {entry.step for entry in history} | {step for name, step in self._known.steps if name == metric}

    def tag(self, name: str) -> str | None:
        """The value of a tag of the run, or None."""
        return self._known.tags.get(name)

    def facts(self) -> dict[str, Any]:
        """What tables show of the run: its id, the number of parameters, and the seconds that training took."""
        return {
            "id": self.id,
            "parameters": int(self._known.params[names.PARAMETERS]),
            "seconds": self._known.metrics[names.TRAIN_SECONDS],
        }

    def log_dataset(self, data: PreparedData, name: str) -> None:
        """Register `data` as `name`, under the digest of all its images (MLflow's own covers about twelve digits)."""
        source = {"tags": {"origin": data.manifest["origin"], "licence": data.manifest["licence"]}}
        with self.together():
            for part, context in {"train": "training", "test": "testing"}.items():
                images = getattr(data, part).images
                size = images.shape[2:] if isinstance(images, np.ndarray) else (-1, -1)
                tensor = {"dtype": str(data.dtype), "shape": [-1, data.channels, *size]}
                dataset = {
                    **names.logged_dataset(name, part, data.digest),
                    "source_type": "code",
                    "source": json.dumps(source),
                    "schema": json.dumps(
                        {"mlflow_colspec": [{"name": data.layout, "type": "tensor", "tensor-spec": tensor}]}
                    ),
                }
                self._append({"kind": "dataset", "dataset": dataset, "context": context})
            self.log_dict(data.manifest, names.MANIFEST)
            self.log_tags({names.DATASET_SHA256: data.digest, names.TEST_IMAGES_SHA256: data.test_digest})

    def log_fingerprint(self, stage: str, parts: Fingerprint) -> None:
        """Log what the result of a stage depends on."""
        with self.together():
            self.log_dict(dict(parts), names.fingerprint_file(stage))
            self.log_tags({names.fingerprint_tag(stage): digest(parts)})

    def is_done(self, stage: str, parts: Fingerprint) -> bool:
        """Whether the run has a stage's result with this fingerprint; prints what has changed if it has another."""
        former = self.tag(names.fingerprint_tag(stage))
        if former is None or former == digest(parts):
            return former is not None
        with self.artifact(names.fingerprint_file(stage)) as path:
            changes = describe_changes(parts, read_json(path))
        say(f"{stage}: not reusing the results of run {self.id}, changed: {changes}")
        return False

    def log_figure(self, figure: Figure, name: str, svg: bytes = b"") -> None:
        """Log a figure as `figures/<name>.png`, and beside that its SVG file."""
        path = self._spool.new_file(f"{name}.png")
        with writing(path):
            figure.savefig(path, dpi=150)
        self._artifact(path, names.FIGURES)
        if svg:
            path = self._spool.new_file(f"{name}.svg")
            with writing(path):
                path.write_bytes(svg)
            self._artifact(path, names.FIGURES)

    def log_image(self, pixels: np.ndarray, key: str, step: int) -> None:
        """Add an image, uint8 [H, W] or [H, W, 3], to the step slider called `key`."""
        # Written here the way `mlflow.log_image` does it, which names the files anew whenever it is called.
        image = Image.fromarray(pixels)
        name = f"{key}+step+{step}+timestamp+{_now()}+{uuid.uuid4()}"
        for path, picture in (
            (self._spool.new_file(f"{name}.png"), image),
            (self._spool.new_file(f"{name}+compressed.webp"), ImageOps.contain(image, _THUMBNAIL)),
        ):
            with writing(path):
                picture.save(path)
            self._artifact(path, names.IMAGES)
        self.log_tags({names.LOGGED_IMAGES: "True"})

    def log_dict(self, value: dict[str, Any], path: str) -> None:
        self.log_text(json.dumps(value, indent=2) + "\n", path)

    def log_text(self, text: str, path: str) -> None:
        copy = self._spool.new_file(Path(path).name)
        with writing(copy):
            copy.write_text(text)
        self._artifact(copy, _parent(path))

    def log_table(self, columns: Mapping[str, np.ndarray], path: str) -> None:
        """Log a table that the UI shows and compares with those of other runs. Of a run, it is the only one."""
        rows = zip(*(values.tolist() for values in columns.values()), strict=True)
        with self.together():
            # As `mlflow.log_table` does it, which reads what is there, and adds to it.
            self.log_text(json.dumps({"columns": [*columns], "data": [*rows]}), path)
            self.log_tags({names.LOGGED_ARTIFACTS: json.dumps([{"path": path, "type": "table"}])})

    def log_arrays(self, arrays: Mapping[str, np.ndarray], path: str) -> None:
        """Log arrays by their names as an `.npz` file."""
        copy = self._spool.new_file(Path(path).name)
        with writing(copy):
            np.savez_compressed(copy, **arrays)  # type: ignore[arg-type]
        self._artifact(copy, _parent(path))

    def log_file(self, path: Path, folder: str = "") -> None:
        copy = self._spool.new_file(path.name)
        with writing(copy):
            shutil.copyfile(path, copy)
        self._artifact(copy, folder)

    def log_folder(self, path: Path, folder: str) -> None:
        copy = self._spool.new_file(path.name)
        with writing(copy):
            shutil.copytree(path, copy)
        self._append({"kind": "artifact", "file": self._relative(copy), "path": folder})

    @contextmanager
    def artifact(self, path: str) -> Iterator[Path]:
        """An artifact of this run, as a file for the time being. Asks the store, unless it was logged here.

        Raises:
            PipelineError: the run has no such artifact.
        """
        if path in self._known.files:
            yield self._known.files[path]
            return
        with tempfile.TemporaryDirectory() as folder:
            yield store.download(self.id, path, folder)

    def has_artifact(self, name: str) -> bool:
        """Whether the run has an artifact of this name, which is in no folder. Asks the store."""
        listed = store.ask(f"run {self.id}", lambda: store.connect().list_artifacts(self.id))
        return name in self._known.files or name in {entry.path for entry in listed}

    def log_onnx(
        self,
        file: Path,
        example: np.ndarray,
        *,
        loader: Path,
        package: Path,
        step: int,
        requirements: list[str],
        metadata: dict[str, Any],
        tags: dict[str, str],
        extra_files: list[Path],
    ) -> None:
        """Log an ONNX model under the name `names.DENOISER`.

        Args:
            file: an ONNX file.
            example: noisy images, float32 [N, C, H, W].
            loader: a module that MLflow loads the model with when it serves it, or as a pyfunc.
            package: a folder that the module imports.
            step: how many images the weights have seen; metrics logged at this step are linked to the model.
            requirements: what a consumer installs, pinned.
            metadata: stored with the model: `sha256` is that of the file.
            tags: of the model, by which it can be searched.
            extra_files: copied beside the model.
        """
        folder = self._spool.new_file("model")
        with writing(folder):
            folder.mkdir()
            for path in (file, loader, *extra_files):
                shutil.copyfile(path, folder / path.name)
            shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
            np.save(folder / "example.npy", example)
        self._append(
            {
                "kind": "model",
                "id": uuid.uuid4().hex,
                "folder": self._relative(folder),
                "loader": loader.name,
                "package": package.name,
                "step": step,
                "requirements": requirements,
                "metadata": metadata,
                "tags": tags,
                "extra_files": [path.name for path in extra_files],
            }
        )

    def log_model_results(self, dataset: str) -> None:
        """Give the model that `log_onnx` has logged the results of this run, on the test images of the dataset."""
        of = names.logged_dataset(dataset, "test", self._known.tags[names.DATASET_SHA256])
        metrics = [name for name in self._known.metrics if name.startswith(names.RESULTS)]
        self._append({"kind": "results", "metrics": metrics, "dataset": of})

    def model_id(self) -> str | None:
        """Wait until the store has all that was logged, and return the id of the model that `log_onnx` has logged.

        Returns:
            None if the store does not answer: it is sent the model later.

        Raises:
            ParityError: the store's copy of the model is another file. What was logged together with it is dropped.
        """
        if not self._spool.flush():
            return None
        return store.connect().get_run(self.id).data.tags[names.MODEL_ID]

    def end(self, status: str, error: BaseException | None = None) -> None:
        """Set the run's status, the time of its end, what ended it, and what was printed. Never fails."""
        try:
            with self.together():
                if error is not None:
                    endings.tell(self, error)
                self.log_console()
                self._append({"kind": "end", "status": status, "time": _now()})
        except PipelineError as full:  # the disk is full; this one call may get through
            endings.end_run(self.id, error or full)

    def log_meanwhile(self, metrics: dict[str, float], step: int) -> None:
        """As `log_metrics`, for another thread than that of the stages: not into the group that is open."""
        values = {"metrics": metrics, "params": {}, "tags": {}}
        with suppress(PipelineError):  # a full disk, which whoever logs more than this reports
            self._spool.append([{"kind": "values", "time": _now(), "step": step, **values}])

    def log_console(self) -> None:
        """Log what was printed so far, in this process and in former ones, if the disk is not full."""
        printed = self.folder / names.CONSOLE
        if printed.is_file() and printed.stat().st_size:  # nothing, where this is no command
            with suppress(PipelineError, OSError):
                self.log_file(printed)

    def _values(
        self,
        metrics: dict[str, float] | None = None,
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
        step: int | None = None,
    ) -> None:
        if metrics or params or tags:
            values = {"metrics": metrics or {}, "params": params or {}, "tags": tags or {}}
            self._append({"kind": "values", "time": _now(), "step": step or 0, **values})

    def _artifact(self, path: Path, folder: str) -> None:
        self._append({"kind": "artifact", "file": self._relative(path), "path": folder})

    def _append(self, *events: Event) -> None:
        if self._group is None:
            self._spool.append(events)
        else:
            self._group.extend(events)
        for event in events:
            self._known.add(event, self._spool.folder)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._spool.folder).as_posix()


def _parent(path: str) -> str:
    return "" if Path(path).parent == Path() else Path(path).parent.as_posix()


def _now() -> int:
    """Milliseconds since 1970, as MLflow counts time."""
    return time.time_ns() // 1_000_000
