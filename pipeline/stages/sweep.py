"""Run many combinations of options, and compare them: a parent run with a `run` as a child for each."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import click

from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.reports.figures import quality_comparison
from pipeline.reports.tables import markdown_table
from pipeline.stages.inputs import TEST
from pipeline.stages.prepare import prepare
from pipeline.tracking import store
from pipeline.tracking.run import Run, metric_text
from pipeline.trials.running import Trial, run_trials, running_elsewhere, trial_name
from pipeline.trials.space import Interval

MOST_TRIALS = 10_000


def grid(options: Mapping[str, Sequence[Any]], seeds: int) -> list[Trial]:
    """A trial for every combination of the options' values, with so many seeds each.

    Args:
        options: one or more values of every option of `run` that decides its result; those of `seed` only one.
        seeds: how many, from the one given.

    Raises:
        PipelineError: options that do not go together, or more than `MOST_TRIALS`.
    """
    count = seeds
    for name, values in options.items():
        count *= len(values)
        if interval := next((value for value in values if isinstance(value, Interval)), None):
            raise PipelineError(f"--{name.replace('_', '-')} {interval}: an interval needs --search")
    if count > MOST_TRIALS:
        raise PipelineError(f"the sweep has {count:,} trials; at most {MOST_TRIALS:,} are allowed")
    swept = [name for name, values in options.items() if len(values) > 1]
    trials: dict[str, Trial] = {}
    for combination in product(*options.values()):
        chosen = dict(zip(options, combination, strict=True))
        config = Config.from_options(**chosen)
        group = " ".join(f"{name}={chosen[name]}" for name in swept) or config.model_name
        for seed in range(config.seed, config.seed + seeds):
            trial = replace(config, seed=seed)
            trials[trial.to_json()] = Trial(trial_name(trial, {name: chosen[name] for name in swept}), group, trial)
    return list(trials.values())


def sweep(trials: Sequence[Trial], run: Run, jobs: int, artifacts_dir: str) -> bool:
    """Run every trial as a child of `run`, and log their table to `run`.

    Args:
        trials: at least one.
        run: the parent.
        jobs: how many trials run at a time.
        artifacts_dir: where each trial's hand-off folder goes.

    Returns:
        Whether all trials succeeded. One that fails is told, and the others go on.
    """
    prepare(trials[0].config)  # once, instead of by all at the same time

    def not_elsewhere() -> Iterator[Trial]:
        for trial in trials:
            if trial.name in running_elsewhere(run.id):
                click.echo(f"sweep: {trial.name} is running elsewhere")
            else:
                yield trial

    ends = run_trials(not_elsewhere(), len(trials), run, jobs, artifacts_dir)
    _report(run, {trial: run_id for trial, run_id in ends.items() if run_id})
    return None not in ends.values()


def _report(run: Run, finished: Mapping[Trial, str]) -> None:
    """Log mean and standard deviation over the seeds of every group: a table, metrics and a figure."""
    reports: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for trial, run_id in finished.items():
            reports[trial.group].append(json.loads(store.download(run_id, TEST, folder).read_text()))
    if not reports:
        return
    levels = list(next(iter(reports.values()))[0]["results"])
    levels = [level for level in levels if all(level in one["results"] for of in reports.values() for one in of)]
    rows = [["", *levels, "seeds"]]
    for group, of_group in reports.items():
        cells = []
        for level in levels:
            psnrs = [report["results"][level]["denoised"]["psnr"] for report in of_group]
            deviation = statistics.stdev(psnrs) if len(psnrs) > 1 else 0.0
            run.log_metrics(
                {
                    store.noise_metric(f"psnr_mean_{metric_text(group)}", level): statistics.mean(psnrs),
                    store.noise_metric(f"psnr_std_{metric_text(group)}", level): deviation,
                }
            )
            cells.append(f"{statistics.mean(psnrs):.2f}" + (f" ± {deviation:.2f}" if len(psnrs) > 1 else ""))
        rows.append([group, *cells, str(len(of_group))])
    table = markdown_table(rows)
    run.log_text(table, "sweep.md")
    run.describe(table)
    first = next(iter(reports.values()))[0]["curve"]
    curves = {}
    for group, of_group in reports.items():
        by_level = zip(*(report["curve"]["psnr"]["denoised"] for report in of_group), strict=True)
        curves[group] = [statistics.mean(values) for values in by_level]
    title = f"Gaussian noise, {first['images']:,} test images, mean over seeds"
    run.log_figure(quality_comparison(first["variances"], curves, title), "sweep")
    click.echo(f"sweep: PSNR in dB on the test images, by noise (run {run.id})\n{table}", nl=False)
