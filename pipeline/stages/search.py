"""A sweep whose trials follow from the results of those before them, chosen by Optuna.

There is no other storage than the tracking store: whenever a trial is chosen, Optuna is told what the trials of the
sweep have given so far. So a search goes on after whatever befell it, and on several machines at once.
"""

from __future__ import annotations

import json
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import click

from pipeline.config import DATA, Config
from pipeline.errors import PipelineError
from pipeline.reports import figures
from pipeline.reports.tables import markdown_table
from pipeline.stages.prepare import prepare
from pipeline.tracking import names, queries, store
from pipeline.tracking.run import Run
from pipeline.training.loop import POINTS
from pipeline.trials.running import Trial, run_trials, stopped_trials, trial_name
from pipeline.trials.space import SEARCHES, Interval

if TYPE_CHECKING:
    import optuna
    from mlflow.entities import Run as MlflowRun

    Space = dict[str, optuna.distributions.BaseDistribution]

_BEFORE_PRUNING = 3  # trials that must have finished
_UNPRUNED = 30  # percent of every training
_TRIES = 20  # at a choice that was not made before
# With another of these, the same validation loss means something else.
_MEASURE = ("noise", "variance", "clip_input", "target", "loss", "crop")


def search(
    options: Mapping[str, Sequence[Any]],
    space: Space,
    method: str,
    count: int,
    run: Run,
    jobs: int,
    artifacts_dir: str,
) -> None:
    """Run trials, each chosen by the results of those before it, as children of `run`, and log to `run` what came out.

    Args:
        options: one or more values, or an `Interval`, of every option of `run` that decides its result.
        space: of these options.
        method: one of `SEARCHES`.
        count: how many trials there shall be in all, with those of earlier calls and other machines.
        run: the parent.
        jobs: how many trials run at a time.
        artifacts_dir: where each trial's hand-off folder goes.
    """
    fixed = {name: values[0] for name, values in options.items() if name not in space}
    prepare(Config(**{name: fixed[name] for name in DATA}))  # once, instead of by all at the same time
    chosen = _Search(fixed, space, method, count, run)
    run_trials(chosen.trials(), count, run, jobs, artifacts_dir, chosen.ended, chosen.is_hopeless)
    chosen.report()


class _Search:
    """The trials of a sweep, one chosen after the other."""

    def __init__(self, fixed: Mapping[str, Any], space: Space, method: str, count: int, run: Run) -> None:
        self._fixed, self._space, self._method, self._count, self._run = fixed, space, method, count, run
        self._own: dict[str, dict[str, Any]] = {}  # what this process chose, and the store may not have yet
        self._curves: dict[str, dict[int, float]] = {}  # of runs that have ended

    def trials(self) -> Iterator[Trial]:
        """Those that were stopped first, then new ones. Each is chosen when it is asked for."""
        for name, run in stopped_trials(self._run.id).items():
            config = store.read_config(run.info.run_id)
            if name not in self._known():  # the sweep died before the store was told
                self._note_choice(name, {option: getattr(config, option) for option in self._space})
            yield Trial(name, name, config)
        known = self._known()
        for name in known.keys() - self._runs(known).keys():
            if known[name].get("host") == socket.gethostname():  # the sweep died before its run began
                yield Trial(name, name, Config.from_options(**{**self._fixed, **known[name]["choice"]}))
        while len(known := self._known()) < self._count:
            chosen = self._choose(known)
            if chosen is None:
                click.echo("sweep: every combination was tried")
                return
            yield chosen

    def _choose(self, known: Mapping[str, Any]) -> Trial | None:
        for attempt in range(_TRIES):
            study = self._study(known, attempt)
            params = {name: self._rounded(name, value) for name, value in study.ask(self._space).params.items()}
            config = Config.from_options(**{**self._fixed, **params})
            name = trial_name(config, params)
            if name not in known:
                self._note_choice(name, params)
                return Trial(name, name, config)
        return None

    def _rounded(self, name: str, value: Any) -> Any:
        """A number that can be read and typed, within its interval."""
        if not isinstance(value, float):
            return value
        distribution: Any = self._space[name]
        return min(max(float(f"{value:.4g}"), distribution.low), distribution.high)

    def ended(self, trial: Trial, run_id: str | None) -> None:
        """Note which run a trial is; it may be one of earlier, which is not the sweep's own."""
        if run_id:
            self._note(trial.name, {**self._known()[trial.name], "run": run_id})

    def _note_choice(self, name: str, params: dict[str, Any]) -> None:
        self._note(name, {"choice": params, "host": socket.gethostname()})

    def _note(self, name: str, known: dict[str, Any]) -> None:
        self._own[name] = known
        self._run.log_tags({names.choice_tag(name): json.dumps(known)})

    def is_hopeless(self, run: MlflowRun) -> bool:
        """Whether the training in `run` is worse than the median of the others at the same point."""
        import optuna

        known, name, curve = self._known(), run.data.tags[names.TRIAL], self._curve(run)
        if not curve or 100 in curve:  # nothing to save
            return False
        others = self._study({other: choice for other, choice in known.items() if other != name}, 0)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=_BEFORE_PRUNING, n_warmup_steps=_UNPRUNED)
        state = optuna.trial.TrialState.RUNNING
        return pruner.prune(others, optuna.trial.create_trial(state=state, intermediate_values=curve))

    def report(self) -> None:
        """Log the table, the figure and the best config."""
        runs = self._runs(known := self._known())
        swept = list(self._space)
        rows = []
        for name, run in runs.items():
            own = store.read_config(run.info.run_id).training_noise.label
            metrics = run.data.metrics
            loss, psnr = metrics.get(names.BEST_VALIDATION_LOSS), metrics.get(names.noise_metric("psnr", own))
            finished = run.info.status == "FINISHED" and loss is not None
            chosen = [f"{known[name]['choice'][option]}" for option in swept]
            end = "" if finished else "pruned" if names.PRUNED in run.data.tags else run.info.status.lower()
            cells = [f"{loss:.6f}" if finished else "", "" if psnr is None else f"{psnr:.2f}", end]
            rows.append((loss if finished else float("inf"), [run.info.run_id[:8], *chosen, *cells]))
        head = ["run", *swept, "validation loss", "test PSNR", ""]
        table = markdown_table([head, *(row for _, row in sorted(rows, key=lambda row: row[0]))])
        self._run.log_text(table, names.SWEEP_TABLE)
        losses = {
            name: run.data.metrics[names.BEST_VALIDATION_LOSS]
            for name, run in runs.items()
            if run.info.status == "FINISHED"
        }
        if losses:
            self._run.log_figure(figures.search_history([*losses.values()]), names.SWEEP)
            best = runs[min(losses, key=lambda name: losses[name])].info.run_id
            self._run.log_tags({names.BEST_RUN: best})
            self._run.log_metrics({names.BEST_VALIDATION_LOSS: min(losses.values())})
            self._run.log_text(store.read_config(best).to_json(), names.BEST_CONFIG)
            table += f"\nThe best is run {best}; its config is {names.BEST_CONFIG} in run {self._run.id}.\n"
        self._run.describe(table)
        click.echo(f"sweep: by loss on the validation images (run {self._run.id})\n{table}", nl=False)

    def _known(self) -> dict[str, dict[str, Any]]:
        """What was chosen for every trial so far, here and on other machines, by its name."""
        run_id = self._run.id
        tags = store.ask(f"run {run_id}", lambda: store.connect().get_run(run_id)).data.tags
        prefix = names.choice_tag("")
        stored = {key.removeprefix(prefix): json.loads(tags[key]) for key in tags if key.startswith(prefix)}
        return {**stored, **self._own}

    def _runs(self, known: Mapping[str, dict[str, Any]]) -> dict[str, MlflowRun]:
        """The runs of the trials that have one, oldest first."""
        children = queries.children(self._run.id)
        runs = {run.data.tags[names.TRIAL]: run for run in reversed(children) if names.TRIAL in run.data.tags}
        by_id = {run.info.run_id: run for run in children}
        for name, choice in known.items():
            if name not in runs and (run_id := choice.get("run")):
                runs[name] = by_id.get(run_id) or store.connect().get_run(run_id)
        return {name: run for name, run in runs.items() if name in known}

    def _study(self, known: Mapping[str, dict[str, Any]], attempt: int) -> optuna.Study:
        """The trials so far, as Optuna sees them. What failed is as bad as can be: pruned before it began."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        sampler, options = SEARCHES[self._method]
        # The same seed would choose the same again and again.
        seed = (self._fixed["seed"] * 100_003 + len(known) * _TRIES + attempt) % 2**32
        study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=seed, **options))
        states = optuna.trial.TrialState
        for name, run in self._runs(known).items():
            params = known[name]["choice"]
            value, state, curve = None, states.PRUNED, {}
            if run.info.status == "FINISHED" and names.BEST_VALIDATION_LOSS in run.data.metrics:
                state, value, curve = states.COMPLETE, run.data.metrics[names.BEST_VALIDATION_LOSS], self._curve(run)
            elif run.info.status == "RUNNING":
                state = states.RUNNING
            elif names.PRUNED in run.data.tags:
                curve = self._curve(run)
            trial: dict[str, Any] = {"state": state, "value": value, "intermediate_values": curve}
            try:
                study.add_trial(optuna.trial.create_trial(**trial, params=params, distributions=self._space))
            except ValueError:  # chosen before the sweep went on with another space
                study.add_trial(optuna.trial.create_trial(**trial))
        return study

    def _curve(self, run: MlflowRun) -> dict[int, float]:
        """The training loss by percent of the training, at the tenths that it has passed: every training has these."""
        run_id = run.info.run_id
        if run_id in self._curves:
            return self._curves[run_id]
        if "epochs" not in run.data.params:  # it only just began
            return {}
        history = store.connect().get_metric_history(run_id, names.TRAIN_LOSS)
        epochs = int(run.data.params["epochs"])
        points = epochs * -(-POINTS // epochs)
        ends = {100 * part // POINTS: -(-part * points // POINTS) for part in range(1, POINTS + 1)}
        curve = {percent: history[end - 1].value for percent, end in ends.items() if end <= len(history)}
        if run.info.status != "RUNNING":
            self._curves[run_id] = curve
        return curve


def space_of(options: Mapping[str, Sequence[Any]]) -> Space:
    """What there is to choose from.

    Args:
        options: one or more values, or an `Interval`, of every option of `run` that decides its result.

    Raises:
        PipelineError: Optuna is not installed, there is nothing to choose from, or the results would not compare.
    """
    try:
        from optuna import distributions
    except ImportError as error:
        raise PipelineError("--search needs Optuna: pip install -e '.[search]'") from error
    space: Space = {}
    for name, values in options.items():
        interval = next((value for value in values if isinstance(value, Interval)), None)
        if interval and len(values) > 1:
            raise PipelineError(f"--{name.replace('_', '-')}: give values, or one LOW:HIGH")
        if interval and isinstance(interval.low, int):
            space[name] = distributions.IntDistribution(interval.low, int(interval.high), log=interval.low > 0)
        elif interval:
            space[name] = distributions.FloatDistribution(interval.low, interval.high, log=interval.low > 0)
        elif len(values) > 1:
            space[name] = distributions.CategoricalDistribution(values)
    if not space:
        raise PipelineError("--search: nothing to choose from; give an option several values, or LOW:HIGH")
    _check_measure(options)
    return space


def _check_measure(options: Mapping[str, Sequence[Any]]) -> None:
    """Raise a `PipelineError` if options decide what the validation loss is of."""
    measures: dict[tuple[Any, ...], None] = {}
    for combination in product(*options.values()):
        chosen = {
            name: value.low if isinstance(value, Interval) else value
            for name, value in zip(options, combination, strict=True)
        }
        config = Config.from_options(**chosen)
        measures[tuple(getattr(config, name) for name in _MEASURE)] = None
    if len(measures) > 1:
        one, other, *_ = measures
        name, *values = next(
            (name, *pair) for name, *pair in zip(_MEASURE, one, other, strict=True) if pair[0] != pair[1]
        )
        raise PipelineError(
            f"--search: the validation losses of {name}={values[0]} and {name}={values[1]} do not compare; "
            "use a grid (no --search), or one of them"
        )
