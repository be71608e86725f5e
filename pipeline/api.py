"""The pipeline from Python: what `import pipeline` offers. The commands do the same, by the same functions.

Nothing here reads the command line or ends the process. Errors are `PipelineError`, with the sentence of the command
line, which may name its options. Lines are printed as there, unless `quiet` is given.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config import AUTO, Config
from pipeline.data.axes import to_batch
from pipeline.denoising.denoiser import Denoiser, load
from pipeline.errors import PipelineError
from pipeline.files import new_folder
from pipeline.models import parse_model, path_of
from pipeline.noise import make_noise
from pipeline.plugins import allow
from pipeline.text import quietly

if TYPE_CHECKING:
    import pandas

    from pipeline.tracking.run import OpenRun

__all__ = ["Config", "Denoiser", "PipelineError", "Run", "compare", "evaluate", "export", "load", "train"]

Arrays = np.ndarray | Sequence[np.ndarray]
"""Images of one type: [N, H, W], [N, C, H, W] or [N, H, W, C]; or a list of images [H, W] or [H, W, C] of any sizes."""


@dataclass(frozen=True)
class Run:
    """A training, as MLflow knows it."""

    id: str  # of the MLflow run
    config: Config  # that it was trained with


def train(
    config: Config,
    clean: Arrays | None = None,
    noisy: Arrays | None = None,
    *,
    force: bool = False,
    quiet: bool = False,
) -> Run:
    """Prepare the images and train on them, as one MLflow run, which keeps the best epoch.

    What was done already, with the same inputs and source, is reused. The store is the one of MLFLOW_TRACKING_URI, by
    default sqlite:///mlflow.db in the current folder.

    Args:
        config: what to train; `config.dataset` names the images, unless arrays are given.
        clean: images to train on. Noise is added to them, unless `noisy` is given, too.
        noisy: a noisy image for each clean one, of its shape; or noisy images alone.
        force: train again even if no input changed.
        quiet: print nothing; what would be on stderr becomes a warning.

    Raises:
        PipelineError: as the command `train`; or the arrays are not such images.
    """
    from pipeline.stages.prepare import prepare
    from pipeline.stages.settle import settle
    from pipeline.stages.train import train as train_in
    from pipeline.stages.training_run import open_training

    allow(path_of(config.model))  # whoever calls this has named it
    parse_model(config.model, config.size)
    with _telling(quiet):
        config = _with_arrays(config, clean, noisy)
        config = settle(config, prepare(config))
        with open_training(config, force) as run:
            train_in(config, run)
        return Run(run.id, config)


def evaluate(
    run: Run | str,
    noises: Sequence[str] = (),
    *,
    force: bool = False,
    quiet: bool = False,
    data_dir: str = Config.data_dir,
    code: str = "",
) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    """Score a run on its test images, at the noise of its training, at the reference levels, and at further noises.

    Args:
        run: the run, or its ID.
        noises: further ones, such as "gaussian:variance=0.03".
        force: score again even if no input changed.
        quiet: print nothing.
        data_dir, code: as of `export`.

    Returns:
        The mean of every metric over the test images, `{noise: {denoiser: {metric: mean}}}`. The noise of the training
        is called `run.config.training_noise.label`. The denoisers are the model, "denoised", and what it has to beat,
        "noisy" and "clipped". "psnr" is in dB.

    Raises:
        PipelineError: as the command `evaluate`.
    """
    from pipeline.stages.evaluate import evaluate as evaluate_in

    with _telling(quiet), _opened(run, data_dir, code) as (open_run, config):
        return evaluate_in(config, open_run, [make_noise(spec) for spec in noises], force)


def export(
    run: Run | str,
    folder: str | Path = "",
    *,
    variants: Sequence[str] = (),
    register: str = "",
    allow_worse: bool = False,
    min_gain: float = 0.0,
    min_psnr: float = 0.0,
    force: bool = False,
    quiet: bool = False,
    data_dir: str = Config.data_dir,
    code: str = "",
) -> Path:
    """Write the model of an evaluated run as ONNX, prove it against torch, and pack the hand-off folder.

    Args:
        run: the run, or its ID.
        folder: the hand-off; "" for one in artifacts/ with the name of the run.
        variants: further forms of the file: "uint8", "int8", "fp16".
        register: name of the registered model to add it to; "" for none.
        allow_worse: hand off a model that is no better than doing nothing, too.
        min_gain: over the clipped input, in dB, below which nothing is handed off.
        min_psnr: in dB, below which nothing is handed off.
        force: export again even if no input changed.
        quiet: print nothing.
        data_dir: of a run that is given by its ID: the folder of the prepared data.
        code: of a run that is given by its ID: the `package.module:Class` of its model, if it is one. What only a store
            names is not imported.

    Raises:
        PipelineError: as the command `export`.
    """
    from pipeline.handoff.variants import known_variants
    from pipeline.scoring.quality import Wanted
    from pipeline.stages.export import export as export_in

    forms, wanted = known_variants(variants), Wanted(allow_worse, min_gain, min_psnr)
    with _telling(quiet), _opened(run, data_dir, code) as (open_run, config):
        place = Path(folder) if folder else Path("artifacts") / config.run_name
        return export_in(config, open_run, place, forms, register, wanted, force)


def compare(runs: Sequence[Run | str] = (), query: str = "", *, quiet: bool = False) -> pandas.DataFrame:
    """Finished and evaluated runs as a table of pandas with a row for each, the best first.

    Args:
        runs: runs or their IDs; of a sweep, its trials. None: all runs of the experiment.
        query: MLflow's filter of the runs of the experiment, such as "params.model = 'unet'".
        quiet: print nothing, also not which runs are left out.

    Raises:
        PipelineError: a run does not exist, the query is wrong, or none of the runs can be compared; or pandas, which
            comes with MLflow, is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise PipelineError(
            "compare gives a table of pandas, which is not installed; run: pip install pandas"
        ) from error
    from pipeline.stages.compare import table

    with _telling(quiet):
        return pandas.DataFrame(table([run.id if isinstance(run, Run) else run for run in runs], query))


@contextmanager
def _opened(run: Run | str, data_dir: str, code: str) -> Iterator[tuple[OpenRun, Config]]:
    """A run to add to, and its config on this machine."""
    from pipeline.tracking import opening

    if code:
        allow(code)
    if isinstance(run, Run):
        data_dir = run.config.data_dir
    with opening.continue_run(run.id if isinstance(run, Run) else run, data_dir) as (open_run, config):
        yield open_run, replace(config, data_dir=data_dir, device=run.config.device if isinstance(run, Run) else "auto")


@contextmanager
def _telling(quiet: bool) -> Iterator[None]:
    """Inside, print as the commands do, or nothing; warn at the end of what is not in the tracking store yet."""
    from pipeline.tracking import spool

    before = len(spool.unsent)
    try:
        with quietly(quiet):
            yield
    finally:
        for line in spool.unsent[before:]:
            warnings.warn(f"{line}. Send them with: python -m pipeline doctor --fix", stacklevel=4)


def _with_arrays(config: Config, clean: Arrays | None, noisy: Arrays | None) -> Config:
    """The config with the arrays as its dataset: a folder in the data folder, which is named by what is in it."""
    if clean is None and noisy is None:
        return config
    if config.dataset != Config.dataset or config.noisy:
        raise PipelineError(f"dataset: arrays are given, and {config.dataset!r} as well; leave one of them out")
    given = {"clean": clean, "noisy": noisy}
    channels = {1, 3, *([] if config.channels == AUTO else [config.channels])}
    stacks = {name: _stacks(arrays, name, channels) for name, arrays in given.items() if arrays is not None}
    if len(stacks) == 2 and [one.shape for one in stacks["clean"]] != [other.shape for other in stacks["noisy"]]:
        raise PipelineError("clean and noisy: there must be a noisy image for each clean one, of the same shape")
    digest = hashlib.sha256()
    for name, images in stacks.items():
        for image in images:
            digest.update(f"{name} {image.dtype} {image.shape}\n".encode())
            digest.update(image.data)
    folder = Path(config.data_dir) / "arrays" / f"arrays-{digest.hexdigest()[:12]}"
    if not folder.exists():
        with new_folder(folder) as new:
            for name, images in stacks.items():
                (new / name).mkdir()
                for number, image in enumerate(images):
                    np.save(new / name / f"{number:06}.npy", image)
    return replace(config, **{**config.options, "dataset": str(folder)})


def _stacks(arrays: Arrays, name: str, channels: set[int]) -> list[np.ndarray]:
    """Images [N, C, H, W]: those of an array, or each of a list."""
    if not isinstance(arrays, np.ndarray):
        return [to_batch(array, channels, f"{name}[{number}]")[0] for number, array in enumerate(arrays)]
    return [to_batch(arrays[:, np.newaxis] if arrays.ndim == 3 else arrays, channels, name)[0]]
