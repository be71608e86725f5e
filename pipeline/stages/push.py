"""Copy finished runs, with their models, from the store in use to a tracking server."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pipeline.errors import ArgumentError, PipelineError, counted
from pipeline.text import say
from pipeline.tracking import queries, store
from pipeline.tracking.copying import Copier


def push(server: str, run_ids: Sequence[str] = (), query: str = "") -> None:
    """Copy runs that are finished to a server; those that it has already, as they are now, are left alone.

    Args:
        server: its address.
        run_ids: of the runs; without any, all of the experiment are copied that match `query`.
        query: MLflow filter; "" for all.

    Raises:
        ArgumentError: there is no such run, it is not finished, or the server is the store in use.
        PipelineError: the server, or the store in use, does not answer. What was copied until then counts.
    """
    source, target = store.connect(), store.client_of(server)
    if run_ids:
        runs = [store.ask(f"run {run_id}", partial(source.get_run, run_id)) for run_id in run_ids]
        for run in runs:
            if run.info.status != "FINISHED":
                raise ArgumentError(f"run {run.info.run_id} is {run.info.status}, and only finished runs are pushed")
    else:
        runs = queries.find_runs(" AND ".join(["attributes.status = 'FINISHED'", *([query] if query else [])]))
    if not runs:
        raise PipelineError("there is no finished run to push; run: python -m pipeline run")
    copied = 0
    for experiment in dict.fromkeys(run.info.experiment_id for run in runs):
        of_experiment = [run for run in reversed(runs) if run.info.experiment_id == experiment]  # the oldest first
        copier = store.ask(server, partial(Copier, source, target, experiment))
        for run in of_experiment:
            what = f"run {run.info.run_id} ({run.info.run_name})"
            if copier.is_there(run):
                continue
            copy = store.ask(f"{what} was not copied as a whole", partial(copier.copy, run))
            say(f"push: {what} is run {copy} on the server")
            copied += 1
        for run in of_experiment:
            store.ask(server, partial(copier.lead_references, run))
            for version in store.ask(server, partial(copier.copy_versions, run)):
                say(f"push: registered as {version}")
    say(f"push: {counted(copied, 'run')} copied, {len(runs) - copied} there already")
