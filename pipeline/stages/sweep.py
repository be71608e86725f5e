"""Run many trials, each a `run` that becomes a child of one MLflow run, and put their results side by side."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import counted
from pipeline.reports.comparison_figures import INPUT, quality_by_noise
from pipeline.reports.tables import markdown_table, printed_table
from pipeline.scoring.quality import LEVEL, NAMES, Quality
from pipeline.stages.inputs import read_evaluation
from pipeline.text import say
from pipeline.tracking import names, store
from pipeline.tracking.run import OpenRun
from pipeline.trials.running import Trial, run_trials, running_elsewhere


def sweep(trials: Sequence[Trial], run: OpenRun, jobs: int, artifacts_dir: str, force: bool = False) -> bool:
    """Run every trial as a child of `run`, and log their table and figure to `run`.

    Args:
        trials: at least one; all on the same prepared images.
        run: the parent.
        jobs: how many trials run at a time.
        artifacts_dir: where each trial's hand-off folder goes.
        force: run trials again that are finished.

    Returns:
        Whether all trials succeeded. A trial that fails is reported, and does not stop the others.
    """

    def not_elsewhere() -> Iterator[Trial]:
        for trial in trials:
            if trial.name in running_elsewhere(run.id):
                say(f"sweep: {trial.name} is running elsewhere")
            else:
                yield trial

    ends = run_trials(not_elsewhere(), len(trials), run, jobs, artifacts_dir, force=force)
    groups = _read_groups({trial: run_id for trial, run_id in ends.items() if run_id})
    if groups:
        _log(run, groups)
    return None not in ends.values()


@dataclass(frozen=True)
class _Result:
    """What one finished trial is compared by."""

    report: Mapping[str, Any]  # the content of `names.EVALUATION`
    parameters: int  # of the network
    seconds: float  # that its training took
    is_worse: bool  # than doing nothing, at the noise of its training
    own: str  # label of that noise

    def quality(self, level: str) -> Quality:
        """On the test images with noise of this level."""
        return Quality.of(self.report["results"][level])


def _read_groups(finished: Mapping[Trial, str]) -> dict[str, list[_Result]]:
    """The results of the trials by their group, read from their runs: trials in a group differ in the seed only."""
    groups: defaultdict[str, list[_Result]] = defaultdict(list)
    client = store.connect()
    with tempfile.TemporaryDirectory() as folder:
        for trial, run_id in finished.items():
            report = read_evaluation(store.download(run_id, names.EVALUATION, folder), run_id)
            data = client.get_run(run_id).data
            is_worse = data.tags.get(names.QUALITY) == "worse"  # runs of early versions do not say
            parameters, seconds = int(data.params[names.PARAMETERS]), data.metrics[names.TRAIN_SECONDS]
            label = trial.config.training_noise.label
            own = label if label in report["results"] else next(iter(report["results"]))  # once it was named otherwise
            groups[trial.group].append(_Result(report, parameters, seconds, is_worse, own))
    return groups


def _log(run: OpenRun, groups: Mapping[str, Sequence[_Result]]) -> None:
    """Log mean and standard deviation over the seeds of every group: metrics, a table and a figure."""
    everyone = [result for group in groups.values() for result in group]
    first = everyone[0]
    levels = [level for level in first.report["results"] if all(level in one.report["results"] for one in everyone)]
    metric = first.quality(levels[0]).metric
    scores = {}
    for name, group in groups.items():
        for level in levels:
            spread = _spread([result.quality(level).output for result in group])
            for what, value in zip(("mean", "std"), spread, strict=True):
                if math.isfinite(value):
                    scores[names.noise_metric(f"{metric}_{what}_{names.metric_text(name)}", level)] = value
    rows = _rows(groups, levels)
    worse = [
        f"{name}: {count} of {len(group)} no better than the clipped input, with the noise of the training"
        for name, group in groups.items()
        if (count := sum(result.is_worse for result in group))
    ]
    table = "\n".join([markdown_table(rows), *(f"{line}\n" for line in worse)])
    known = run.metrics()
    with run.together():  # of a sweep that was killed and is resumed, nothing twice
        run.log_metrics({key: value for key, value in scores.items() if known.get(key) != value})
        run.log_text(table, names.SWEEP_TABLE)
        run.describe(table)
        if "curve" in first.report:
            _log_curves(run, groups)
    unit = "" if metric == LEVEL else " in dB"
    say(f"sweep: {NAMES[metric]}{unit} on the test images, by noise (run {run.id})")
    say(*printed_table(rows, f"{names.SWEEP_TABLE} of this run has all"))
    for line in worse:
        say("", line)


def _log_curves(run: OpenRun, groups: Mapping[str, Sequence[_Result]]) -> None:
    curve = next(iter(groups.values()))[0].report["curve"]
    curves = {}
    for name, group in groups.items():
        by_level = zip(*(result.report["curve"]["psnr"]["denoised"] for result in group), strict=True)
        curves[name] = dict(zip(curve["variances"], map(statistics.mean, by_level), strict=True))
    of_input = dict(zip(curve["variances"], curve["psnr"]["clipped"], strict=True))
    title = f"Gaussian noise, {counted(curve['images'], 'test image')}, mean over seeds"
    run.log_figure(quality_by_noise(curves, of_input, "PSNR in dB", title), names.SWEEP)


def _rows(groups: Mapping[str, Sequence[_Result]], levels: Sequence[str]) -> list[list[str]]:
    """A table, its head first."""
    first = next(iter(groups.values()))[0]
    has_others = any(group[0].own not in levels for group in groups.values())  # such trials have a noise of their own
    more = ["noise of its training"] if has_others else []
    rows = [
        ["", *levels, *more, "seeds", "parameters", "training"],
        [
            INPUT,
            *(_cell(first.quality(level), first.quality(level).input) for level in levels),
            *("" for _ in more),
            "",
            "",
            "",
        ],
    ]
    for name, group in groups.items():
        cells = [_mean(group, level) for level in levels]
        if has_others:
            cells.append(f"{group[0].own}: {_mean(group, group[0].own)}")
        seconds = statistics.mean(result.seconds for result in group)
        rows.append([name, *cells, str(len(group)), f"{group[0].parameters:,}", f"{seconds:.0f} s"])
    return rows


def _mean(group: Sequence[_Result], level: str) -> str:
    """Over the seeds, on images with noise of this level; with the standard deviation, if there are several."""
    mean, deviation = _spread([result.quality(level).output for result in group])
    quality = group[0].quality(level)
    return _cell(quality, mean) + (f" ± {_cell(quality, deviation)}" if len(group) > 1 else "")


def _cell(quality: Quality, value: float) -> str:
    """A figure of the same kind as `quality`, as text."""
    if math.isnan(value):
        return "not known"
    return f"{value:.4f}" if quality.metric == LEVEL else f"{value:.2f}"


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation; of a single value, 0."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
