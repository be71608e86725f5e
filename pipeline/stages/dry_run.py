"""What `run` would do: the config, and which stages would run, and why. Nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.config import AUTO, OF_DATA, Config
from pipeline.data.prepared import PreparedData, prepared_folder
from pipeline.errors import PipelineError
from pipeline.stages import evaluate, export, prepare, train
from pipeline.stages.settle import settle
from pipeline.text import say
from pipeline.tracking import names, store
from pipeline.tracking.stored_run import StoredRun


@dataclass(frozen=True)
class Asked:
    """What `run` is asked to do, besides the config."""

    resumed: str  # ID of the run to resume; "" for none
    force: bool  # run every stage again
    artifacts: Path  # folder of the hand-off folders
    name: str  # of the hand-off folder; "" for that of the run
    variants: Sequence[str]  # further forms of the file
    allow_worse: bool  # hand off what is no better than doing nothing


def describe(config: Config, asked: Asked) -> None:
    """Print the config, and what each stage would do.

    Raises:
        PipelineError: what `run` would end with before it trains.
    """
    data = None if asked.force else prepare.find_prepared(config)
    because = ", because of --force" if asked.force else ""
    if data is None:
        prepare.check_images(config)
        say(f"prepare: would run{because}: {prepared_folder(config)}")
    elif not asked.resumed:
        config = settle(config, data)
    _say_config(config, is_settled=data is not None or bool(asked.resumed))
    folder = asked.artifacts / (asked.name or config.run_name)
    found = None if data is None or asked.resumed else _find_trained(config)
    if found and data:
        _describe_rest(config, data, found, folder, asked)
        return
    if asked.resumed:
        say(f"train: would go on with run {asked.resumed}")
    else:
        why = because or (": no run has trained this" if data else ", unless a run has trained on the same data")
        say(f"train: would run as {config.run_name}{why}")
    say("evaluate: would run", _written(folder, asked.resumed))


def _say_config(config: Config, is_settled: bool) -> None:
    """The config, one option a line; those that follow from data that are not there yet say so."""
    for name, value in asdict(config).items():
        is_open = not is_settled and name in (*OF_DATA, "epochs") and config.options[name] == AUTO
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        say(f"  {name}: {shown}{' (unless the data, not prepared yet, call for another)' if is_open else ''}")


def _find_trained(config: Config) -> str | None:
    """The run whose training would be reused, if any; says what is different about a similar one."""
    if not store.is_there():
        return None
    try:
        store.experiment_id()
    except PipelineError:  # there is no such experiment: the run would make it
        return None
    return train.find_trained(config)


def _describe_rest(config: Config, data: PreparedData, run_id: str, folder: Path, asked: Asked) -> None:
    say(f"train: what run {run_id} has trained would be reused")
    run = StoredRun(run_id, store.ask(f"run {run_id}", lambda: store.connect().get_run(run_id)).data)
    is_scored = evaluate.is_done(config, run, data)
    say(f"evaluate: {'its results would be reused' if is_scored else 'would run'}")
    if run.tag(names.QUALITY) == "worse" and not asked.allow_worse:
        say("export: would be refused without --allow-worse: the model is no better than doing nothing")
    elif is_scored and export.is_done(config, run, folder, asked.variants):
        say(f"export: {folder} would be reused")
    else:
        say(_written(folder, run_id))


def _written(folder: Path, run_id: str) -> str:
    """That a hand-off would be written, and whose it would replace. `run_id`: of the run; "" if it is not made yet."""
    former = export.run_of(folder)
    instead = "" if former in ("", run_id) else f", instead of that of run {former}"
    return f"export: would write {folder}{instead}"
