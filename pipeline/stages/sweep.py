"""Many `run`s, one for each combination of options: children of one MLflow run, which holds their table."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import click

from pipeline import store
from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.figures import psnr_comparison
from pipeline.run import Run, metric_text
from pipeline.stages.inputs import TEST
from pipeline.stages.prepare import prepare
from pipeline.tables import markdown_table

MOST_TRIALS = 10_000
TRIALS = "trials.json"


@dataclass(frozen=True)
class Trial:
    """One `run` of a sweep."""

    name: str  # of its hand-off folder
    group: str  # what it has in common with those that differ in the seed only
    config: Config


def grid(options: Mapping[str, Sequence[Any]], seeds: int) -> list[Trial]:
    """A trial for every combination of the options' values, with so many seeds each.

    Args:
        options: one or more values of every option of `run` that decides its result; those of `seed` only one.
        seeds: how many, from the one given.

    Raises:
        PipelineError: options that do not go together, or more than `MOST_TRIALS`.
    """
    count = seeds
    for values in options.values():
        count *= len(values)
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
            extra = [f"{name}{chosen[name]}" for name in swept if name not in ("model", "size", "variance", "noise")]
            name = metric_text("-".join([trial.run_name, *extra])).replace(" ", "-")
            trials[trial.to_json()] = Trial(name, group, trial)
    return list(trials.values())


def sweep(trials: Sequence[Trial], run: Run, jobs: int, artifacts_dir: str) -> bool:
    """Run every trial as a process of its own, and log their table to `run`.

    A trial that an earlier call has finished is found by its fingerprint, and not run again.

    Args:
        trials: at least one.
        run: the parent.
        jobs: how many trials run at a time; the processor's cores are shared out among them.
        artifacts_dir: where each trial's hand-off folder goes.

    Returns:
        Whether all trials succeeded. One that fails is told, and the others go on.
    """
    run.log_dict({"trials": [asdict(trial) for trial in trials]}, TRIALS)
    prepare(trials[0].config)  # once, instead of by all at the same time
    running: set[subprocess.Popen[str]] = set()
    lock, stopping = threading.Lock(), threading.Event()
    done = 0

    def start(trial: Trial) -> str | None:
        """Run the trial; returns the id of its run, or None if it failed."""
        nonlocal done
        with lock:
            if stopping.is_set():
                return None
            config_file = Path(folder) / f"{trial.name}.json"
            config_file.write_text(trial.config.to_json())
            process = _start(trial, config_file, run.id, jobs, artifacts_dir)
            running.add(process)
        out, err = process.communicate()
        with lock:
            running.discard(process)
            done += 1
            if stopping.is_set():
                return None
            run_id = _run_id(out)
            end = f"run {run_id}" if process.returncode == 0 else _last_line(err) or f"exit code {process.returncode}"
            click.echo(f"sweep: trial {done} of {len(trials)}, {trial.name}: {end}")
        return run_id if process.returncode == 0 else None

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        try:
            futures = [pool.submit(start, trial) for trial in trials]
            ids = [future.result() for future in futures]
        except BaseException:
            with lock:
                stopping.set()
                for process in running:
                    process.terminate()
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            _end_dead_children(run.id)

    _report(run, {trial: run_id for trial, run_id in zip(trials, ids, strict=True) if run_id})
    return None not in ids


def _start(trial: Trial, config_file: Path, parent: str, jobs: int, artifacts_dir: str) -> subprocess.Popen[str]:
    threads = max(1, (os.cpu_count() or 1) // jobs)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_RUN")}
    if jobs > 1:  # more threads than cores make torch slower, not faster
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline", "run", "--config", str(config_file), "--parent", parent),
            *("--artifacts-dir", artifacts_dir, "--name", trial.name),
        ],
        env={**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C comes here, and is handed on
    )


def _run_id(out: str) -> str:
    """The id in the last line of `run`."""
    return out.rpartition("run: ")[2].partition(";")[0].strip()


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else ""


def _end_dead_children(parent: str) -> None:
    """A trial that was killed could not say so itself."""
    for child in store.children(parent):
        if child.info.status == "RUNNING":
            store.end_run(child.info.run_id, "FAILED")


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
    run.log_figure(psnr_comparison(first["variances"], curves, title), "sweep")
    click.echo(f"sweep: PSNR in dB on the test images, by noise (run {run.id})\n{table}", nl=False)
