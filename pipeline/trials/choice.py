"""Trials that follow from the results of those before them, chosen by Optuna.

There is no other storage than the tracking store: whenever a trial is chosen, Optuna is given the results of all trials
of the search so far. So a search can be resumed after any interruption, and can run on several machines at once.
"""

from __future__ import annotations

import json
import socket
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.config import Config, DataFacts
from pipeline.errors import PipelineError
from pipeline.files import parse_json
from pipeline.text import say
from pipeline.tracking import names, queries, store
from pipeline.tracking.run import OpenRun
from pipeline.training.loop import POINTS, validated_every
from pipeline.trials.running import Trial, stopped_trials, trial_name
from pipeline.trials.space import SEARCHES

if TYPE_CHECKING:
    import optuna
    from mlflow.entities import Run as MlflowRun

    from pipeline.trials.space import Space

_BEFORE_PRUNING = 3  # trials that must have finished
_UNPRUNED = 30  # percent of every training
_TRIES = 20  # at a choice that was not made before


class Chooser:
    """The trials of a search, each chosen when it is its turn."""

    def __init__(
        self, fixed: Mapping[str, Any], space: Space, method: str, count: int, run: OpenRun, data: DataFacts
    ) -> None:
        self._data = data
        self._fixed, self._space, self._method, self._count, self._run = fixed, space, method, count, run
        self._own: dict[str, dict[str, Any]] = {}  # what this process chose, and the store may not have yet
        self._curves: dict[str, dict[int, float]] = {}  # of runs that have ended

    def trials(self) -> Iterator[Trial]:
        """The trials that were interrupted, then new ones, each chosen when the iterator is asked for it."""
        for name, run in stopped_trials(self._run.id).items():
            config = store.read_config(run.info.run_id)
            if name not in self.known():  # the search died before it was stored
                self._note_choice(name, {option: getattr(config, option) for option in self._space})
            yield Trial(name, name, config)
        known = self.known()
        for name in known.keys() - self.runs(known).keys():
            if known[name].get("host") == socket.gethostname():  # the search died before the run of the trial began
                yield Trial(name, name, self._config(known[name]["choice"]))
        while len(known := self.known()) < self._count:
            chosen = self._choose(known)
            if chosen is None:
                say("search: every combination was tried")
                return
            yield chosen

    def _choose(self, known: Mapping[str, Any]) -> Trial | None:
        for attempt in range(_TRIES):
            study = self._study(known, attempt)
            params = {name: self._rounded(name, value) for name, value in study.ask(self._space).params.items()}
            config = self._config(params)
            name = trial_name(config, params)
            if name not in known:
                self._note_choice(name, params)
                return Trial(name, name, config)
        return None

    def _config(self, chosen: Mapping[str, Any]) -> Config:
        return Config(**{**self._fixed, **chosen}).settled(self._data)

    def _rounded(self, name: str, value: Any) -> Any:
        """A number with few digits, within its bounds."""
        if not isinstance(value, float):
            return value
        distribution: Any = self._space[name]
        return min(max(float(f"{value:.4g}"), distribution.low), distribution.high)

    def ended(self, trial: Trial, run_id: str | None) -> None:
        """Note the run of a trial that has ended; it may be an earlier run that is not part of the search."""
        if run_id:
            self._note(trial.name, {**self.known()[trial.name], "run": run_id})

    def _note_choice(self, name: str, params: dict[str, Any]) -> None:
        self._note(name, {"choice": params, "host": socket.gethostname()})

    def _note(self, name: str, known: dict[str, Any]) -> None:
        self._own[name] = known
        self._run.log_tags({names.choice_tag(name): json.dumps(known)})

    def is_hopeless(self, run: MlflowRun) -> bool:
        """Whether the training in `run` is worse than the median of the others at the same point."""
        import optuna

        known, name, curve = self.known(), run.data.tags[names.TRIAL], self._curve(run)
        if not curve or 100 in curve:  # nothing to save
            return False
        others = self._study({other: choice for other, choice in known.items() if other != name}, 0)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=_BEFORE_PRUNING, n_warmup_steps=_UNPRUNED)
        state = optuna.trial.TrialState.RUNNING
        return pruner.prune(others, optuna.trial.create_trial(state=state, intermediate_values=curve))

    def known(self) -> dict[str, dict[str, Any]]:
        """What was chosen for every trial so far, here and on other machines, by its name."""
        run_id = self._run.id
        tags = store.ask(f"run {run_id}", lambda: store.connect().get_run(run_id)).data.tags
        prefix = names.choice_tag("")
        try:
            stored = {key.removeprefix(prefix): parse_json(tags[key]) for key in tags if key.startswith(prefix)}
            if not all(isinstance(choice["choice"], dict) for choice in stored.values()):
                raise ValueError("it holds no choice")
        except (KeyError, TypeError, ValueError) as error:
            raise PipelineError(f"run {run_id}: one of its tags {prefix}… cannot be used: {error}") from error
        return {**stored, **self._own}

    def runs(self, known: Mapping[str, dict[str, Any]]) -> dict[str, MlflowRun]:
        """The runs of the trials that have one, oldest first."""
        children = queries.children(self._run.id)
        runs = {run.data.tags[names.TRIAL]: run for run in reversed(children) if names.TRIAL in run.data.tags}
        by_id = {run.info.run_id: run for run in children}
        for name, choice in known.items():
            if name not in runs and (run_id := choice.get("run")):
                runs[name] = by_id.get(run_id) or store.connect().get_run(run_id)
        return {name: run for name, run in runs.items() if name in known}

    def _study(self, known: Mapping[str, dict[str, Any]], attempt: int) -> optuna.Study:
        """The trials so far as Optuna's study. A failed trial counts as pruned before it began, the worst result."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        sampler, options = SEARCHES[self._method]
        # The same seed would choose the same again and again.
        seed = (self._fixed["seed"] * 100_003 + len(known) * _TRIES + attempt) % 2**32
        study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=seed, **options))
        states = optuna.trial.TrialState
        for name, run in self.runs(known).items():
            params = known[name]["choice"]
            value, state, curve = None, states.PRUNED, {}
            if run.info.status == "FINISHED" and (loss := queries.loss_of(run, names.BEST)) is not None:
                state, value, curve = states.COMPLETE, loss, self._curve(run)
            elif run.info.status == "RUNNING":
                state = states.RUNNING
            elif names.PRUNED in run.data.tags:
                curve = self._curve(run)
            trial: dict[str, Any] = {"state": state, "value": value, "intermediate_values": curve}
            try:
                study.add_trial(optuna.trial.create_trial(**trial, params=params, distributions=self._space))
            except ValueError:  # chosen before the search was resumed with another space
                study.add_trial(optuna.trial.create_trial(**trial))
        return study

    def _curve(self, run: MlflowRun) -> dict[int, float]:
        """The training loss by percent of the training, at each tenth passed so far: points that every training has."""
        run_id = run.info.run_id
        if run_id in self._curves:
            return self._curves[run_id]
        if "epochs" not in run.data.params:  # it has only just begun
            return {}
        history = queries.loss_history(run_id, run.data.params, names.TRAIN)
        epochs = int(run.data.params["epochs"])
        points = -(-epochs // validated_every(epochs)) * -(-POINTS // epochs)
        ends = {100 * part // POINTS: -(-part * points // POINTS) for part in range(1, POINTS + 1)}
        curve = {percent: history[end - 1][1] for percent, end in ends.items() if end <= len(history)}
        if run.info.status != "RUNNING":
            self._curves[run_id] = curve
        return curve
