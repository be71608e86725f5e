"""Run trials that Optuna chooses one after the other, by the loss on the validation images, and rank them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.config import DATA, Config
from pipeline.reports import figures
from pipeline.reports.tables import markdown_table, printed_table
from pipeline.stages.prepare import prepare
from pipeline.text import say
from pipeline.tracking import names, queries, store
from pipeline.tracking.run import OpenRun
from pipeline.trials.choice import Chooser
from pipeline.trials.running import run_trials

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

    from pipeline.trials.space import Space


def search(
    options: Mapping[str, Sequence[Any]],
    space: Space,
    method: str,
    count: int,
    run: OpenRun,
    jobs: int,
    artifacts_dir: str,
) -> None:
    """Run trials, each chosen by the results of those before it, as children of `run`, and log the ranking to `run`.

    Args:
        options: one or more values, or `Bounds`, of every option of `run` that decides its result.
        space: of these options.
        method: one of `SEARCHES`.
        count: how many trials there shall be in all, with those of earlier calls and other machines.
        run: the parent.
        jobs: how many trials run at a time.
        artifacts_dir: where each trial's hand-off folder goes.
    """
    fixed = {name: values[0] for name, values in options.items() if name not in space}
    data = prepare(Config(**{name: fixed[name] for name in DATA}))  # once, instead of by all at the same time
    chooser = Chooser(fixed, space, method, count, run, data.facts)
    run_trials(chooser.trials(), count, run, jobs, artifacts_dir, chooser.ended, chooser.is_hopeless)
    _log(run, chooser, list(space))


def _log(run: OpenRun, chooser: Chooser, searched: Sequence[str]) -> None:
    """Log the table, the figure and the best config of a search over the options called `searched`."""
    runs = chooser.runs(known := chooser.known())
    rows = [_row(trial, known[name]["choice"], searched) for name, trial in runs.items()]
    head = ["run", *searched, "validation loss", "test PSNR", ""]
    ranking = [head, *(row for _, row in sorted(rows, key=lambda row: row[0]))]
    table = markdown_table(ranking)
    run.log_text(table, names.SWEEP_TABLE)
    lines = printed_table(
        ranking, f"{names.SWEEP_TABLE} of this run has all", ["run", "validation loss", "test PSNR", ""]
    )
    losses = {name: loss for name, trial in runs.items() if (loss := _loss(trial)) is not None}
    if losses:
        run.log_figure(figures.search_history([*losses.values()]), names.SWEEP)
        best = runs[min(losses, key=lambda name: losses[name])].info.run_id
        run.log_tags({names.BEST_RUN: best})
        config, known_metrics = store.read_config(best), run.metrics()
        name = names.loss_metric(names.BEST, asdict(config), known_metrics)
        if known_metrics.get(name) != min(losses.values()):
            run.log_metrics({name: min(losses.values())})
        run.log_text(config.to_json(), names.BEST_CONFIG)
        told = f"The best is run {best}; its config is {names.BEST_CONFIG} in run {run.id}."
        table += f"\n{told}\n"
        lines += ["", told]
    run.describe(table)
    say(f"search: by loss on the validation images (run {run.id})", *lines)


def _row(trial: MlflowRun, choice: Mapping[str, Any], searched: Sequence[str]) -> tuple[float, list[str]]:
    """The loss of a trial to sort by, infinite if it has not finished, and its row in the table."""
    loss = _loss(trial)
    own = store.read_config(trial.info.run_id).training_noise.label
    values = (trial.data.metrics.get(names.noise_metric(metric, own)) for metric in ("psnr", "psnr_estimated"))
    psnr = next((value for value in values if value is not None), None)
    # A search that was resumed with other options may hold choices that lack some of them.
    chosen = [f"{choice.get(option, '')}" for option in searched]
    end = "" if loss is not None else "pruned" if names.PRUNED in trial.data.tags else trial.info.status.lower()
    if not end and trial.data.tags.get(names.QUALITY) == "worse":
        end = "no better than its clipped input"
    cells = ["" if loss is None else f"{loss:.6f}", "" if psnr is None else f"{psnr:.2f}", end]
    return float("inf") if loss is None else loss, [trial.info.run_id[:8], *chosen, *cells]


def _loss(trial: MlflowRun) -> float | None:
    """The loss on the validation images of a trial that has finished."""
    return queries.loss_of(trial, names.BEST) if trial.info.status == "FINISHED" else None
