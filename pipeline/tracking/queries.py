"""Finding runs in the tracking store: the newest, the best, the children of a run, the classical denoisers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError
from pipeline.noise import Noise, without_level
from pipeline.tracking import names
from pipeline.tracking.store import ask, connect, database_file, experiment_id, is_there

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

_ACTIVE, _EVERY_RUN = 1, 3  # `ViewType` of MLflow
# What runs are ranked by, the first that they have.
_RANKED = {"psnr": "test PSNR {:.2f} dB", "psnr_estimated": "estimated PSNR {:.2f} dB", "sigma": "noise level {:.4f}"}


def newest_run() -> str:
    """The id of the newest finished training run of the experiment.

    Raises:
        PipelineError: there is none.
    """
    runs = trained_runs()
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
    trained = [
        run
        for run in trained_runs()
        if run.data.tags.get(names.DATASET) == dataset
        and without_level(run.data.tags.get(names.NOISE, "")) == without_level(noise.spec)
    ]
    for metric in _RANKED:
        name = names.noise_metric(metric, noise.label)
        if runs := [run for run in trained if name in run.data.metrics]:
            break
    else:
        raise PipelineError(
            f"{_experiment()} has no finished and evaluated run on dataset '{dataset}' with {noise.description}; "
            "name a run with --run-id, or choose another --dataset, --noise or --variance"
        )
    if metric == "sigma" and len(runs) > 1:
        raise PipelineError(
            f"{len(runs)} finished runs on {dataset} with {noise.description} cannot be ranked, because without clean "
            "images or second captures no PSNR is known; name one with --run-id"
        )
    best = max(runs, key=lambda run: run.data.metrics[name])
    value, count = best.data.metrics[name], len(runs)
    among = "the only finished run" if count == 1 else f"the highest of {count} finished runs"
    return Choice(
        best.info.run_id,
        f"{best.info.run_name}: {_RANKED[metric].format(value)}, {among} on {dataset} with {noise.description}",
    )


def trained_runs(query: str = "", create: bool = False) -> list[MlflowRun]:
    """The finished runs of the experiment that have a checkpoint, newest first; only those that match `query`.

    Raises:
        PipelineError: there is no such experiment, and it is not to be made.
    """
    if not (create or is_there()):
        return []
    parts = ["attributes.status = 'FINISHED'", f"tags.{names.WEIGHTS} != ''", *([query] if query else [])]
    return ask("the runs", lambda: search_runs(experiment_id(create), " AND ".join(parts)))


def baselines(test_digest: str, metrics: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """The classical denoisers scored on these test images: `{name (images): {metric: {label of the noise: value}}}`."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for run in find_runs(f"tags.`{names.TEST_IMAGES}` != ''"):
        tags, values = run.data.tags, run.data.metrics.items()
        if tags.get(names.TEST_IMAGES_SHA256) == test_digest:
            prefixes = {metric: names.noise_metric(metric, "") for metric in metrics}
            by_metric = {
                metric: {name.removeprefix(prefix): value for name, value in values if name.startswith(prefix)}
                for metric, prefix in prefixes.items()
            }
            found.setdefault(f"{tags[names.MODEL]} ({tags[names.TEST_IMAGES]} images)", by_metric)
    return found


def find_runs(query: str) -> list[MlflowRun]:
    """The runs of the experiment that match MLflow's filter `query`, newest first; all for "".

    Raises:
        PipelineError: there is no such experiment, or the query is wrong.
    """
    if not is_there():
        return []
    return ask(f"query {query!r}", lambda: search_runs(experiment_id(), query))


def loss_of(run: MlflowRun, of: str) -> float | None:
    """The last loss of a run: `of` is `names.TRAIN`, `names.VALIDATION` or `names.BEST`."""
    loss: float | None = run.data.metrics.get(names.loss_metric(of, run.data.params, run.data.metrics))
    return loss


def loss_history(run_id: str, params: Mapping[str, str], of: str) -> list[tuple[int, float]]:
    """The loss of a run with these parameters by the images seen; `of` as in `loss_of`."""
    return history(run_id, names.loss_metric(of, params)) or history(run_id, names.FORMER_LOSSES[of])


def history(run_id: str, metric: str) -> list[tuple[int, float]]:
    """A metric of a run by the images seen."""
    return [(point.step, point.value) for point in connect().get_metric_history(run_id, metric)]


def all_runs(query: str = "", deleted: bool = False) -> list[MlflowRun]:
    """The runs of all experiments that match `query`; none where there is no store yet.

    Args:
        query: MLflow filter.
        deleted: those too that were deleted and are still there.
    """
    if not is_there():
        return []
    experiments = connect().search_experiments()
    return [run for one in experiments for run in search_runs(one.experiment_id, query, deleted=deleted)]


def children(run_id: str) -> list[MlflowRun]:
    """The runs of the experiment that are part of the run `run_id`, newest first."""
    return find_runs(f"tags.`{names.PARENT}` = '{run_id}'")


def search_runs(
    experiment: str, query: str, client: MlflowClient | None = None, deleted: bool = False
) -> list[MlflowRun]:
    """All runs of an experiment that match `query`, newest first.

    Args:
        experiment: its ID.
        query: MLflow filter.
        client: of the store; None for the one in use.
        deleted: those too that were deleted and are still there.
    """
    client = client or connect()
    view = _EVERY_RUN if deleted else _ACTIVE
    runs: list[MlflowRun] = []
    token = None
    while True:
        page = client.search_runs([experiment], query, view, order_by=["attributes.start_time DESC"], page_token=token)
        runs.extend(page)
        token = page.token
        if not token:
            return runs


def _experiment() -> str:
    if not is_there():
        return f"{database_file()}, which is not there,"
    return f"experiment '{connect().get_experiment(experiment_id()).name}'"
