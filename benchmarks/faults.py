"""What interruptions, bad input and a failing server cost. Prints a Markdown table; for more kills see `kills.py`.

    python benchmarks/faults.py [--short] [--only REGEX] [--kills N]

Needs `pip install -e '.[test]'`; the tests do each of these things once. Takes about an hour on two cores, with
`--kills 300` several.
"""

from __future__ import annotations

import argparse
import collections
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT / "tests"), str(PROJECT / "tests" / "cli")]

import mlflow
from calls import run_all
from conftest import environment, kill_while_training, run_cli, write_digits
from mlflow.entities import Run
from server import Proxy, Server
from test_hostile import check_nothing_is_half_written, hostile_calls
from warm import SLOW, forkserver

from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.tracking import names

forkserver.set_forkserver_preload(list(SLOW))  # what is killed does everything itself, also what tests do once for all

EPOCHS = 10
TRAIN = ("train", "--dataset", "digits", "--epochs", str(EPOCHS), "--batch-size", "8", "--force")
SAME = (
    *(names.loss_metric(of, {}) for of in (names.TRAIN, names.VALIDATION)),
    names.VALIDATION_PSNR,
    names.LEARNING_RATE,
)  # metrics that are not times


@dataclass(frozen=True)
class Size:
    """How much of each to do."""

    kills: int = 30  # of each kind
    calls: int = 100_000
    outage: float = 60.0  # seconds
    together: int = 8
    delay: float = 2.0  # seconds per request
    rounds: int = 3
    slow_epochs: int = 60


SHORT = Size(kills=2, calls=100, outage=2.0, together=2, delay=0.5, rounds=1, slow_epochs=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a little of each; takes two minutes")
    parser.add_argument("--only", default="", help="only the rows that match this regular expression")
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="how many of each kind; by default 30")
    arguments = parser.parse_args()
    size = SHORT if arguments.short else Size()
    size = replace(size, kills=arguments.kills or size.kills)
    print("| | |\n|---|---|")
    for what, measure in {
        "kills of a training survived, with identical weights and losses": kills,
        "hostile command lines": hostile,
        f"metric points lost while the server was away for {size.outage:g} s": outage,
        "trainings that finished, of those started together": together,
        f"training time with a server that takes {size.delay:g} s per request": slow,
    }.items():
        if not re.search(arguments.only, what):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_digits(folder / "digits", BundledMNIST().images()[1][:3000, 0])
            print(f"| {what} | {measure(folder, size)} |", flush=True)


def kills(folder: Path, size: Size) -> str:
    """Kill trainings at random moments, and resume them."""
    _pipeline(folder, "prepare", "--dataset", "digits")
    _pipeline(folder, *TRAIN)
    untouched = _fingerprint(folder, _runs(folder)[0])
    moments = random.Random(time.time_ns())
    tried = same = 0
    while tried < size.kills:
        command: tuple[str, ...] = (*TRAIN, "--checkpoint-every", "0.2")
        survived = 0
        while tried + survived < size.kills:
            if kill_while_training(folder, *command, seconds=moments.uniform(0, 2)) != -signal.SIGKILL:
                break
            survived += 1
            command = ("train", "--resume", _runs(folder)[0].info.run_id, "--checkpoint-every", "0.2")
        run_id = _runs(folder)[0].info.run_id
        if _runs(folder)[0].info.status != "FINISHED":
            _pipeline(folder, "train", "--resume", run_id)
        tried += survived
        if _fingerprint(folder, _runs(folder)[0]) == untouched:
            same += survived
    return f"{same} of {tried}"


def hostile(folder: Path, size: Size) -> str:
    """Give every option hostile values."""
    (folder / "empty").mkdir()
    calls = list(hostile_calls())[: size.calls]
    results = run_all(folder, calls)
    check_nothing_is_half_written(folder)
    unforeseen = [result for result in results if "Traceback" in result.err or "(--debug shows" in result.err]
    codes = collections.Counter(result.code for result in results)
    names = {0: "done", 1: "refused by the stage", 2: "refused as usage errors"}
    parts = [f"{count:,} {names.get(code, f'exit code {code}')}" for code, count in sorted(codes.items())]
    return f"{len(calls):,}: {', '.join(parts)}, each with one line; {len(unforeseen)} tracebacks"


def outage(folder: Path, size: Size) -> str:
    """Kill a real server in the middle of a training, and start it again."""
    _pipeline(folder, "prepare", "--dataset", "digits")
    epochs = 200 if size.outage > 10 else EPOCHS
    with Server(folder / "server") as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *TRAIN, "--epochs", str(epochs)],
            cwd=folder,
            env=environment(MLFLOW_TRACKING_URI=server.uri, PYTHONUNBUFFERED="1"),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        next(line for line in process.stdout if "epoch 2/" in line)
        server.stop()
        time.sleep(size.outage)
        server.start()
        process.stdout.read()
        assert process.wait() == 0
        client = mlflow.MlflowClient(server.uri)
        (run,) = client.search_runs(["0"])
        found = [
            [entry.step for entry in client.get_metric_history(run.info.run_id, name)]
            for name in (*SAME, names.IMAGES_PER_SECOND)
        ]
    # There are enough epochs for the learning curve to have one point in each.
    lost = sum(epochs - len(set(steps)) for steps in found)
    double = sum(len(steps) - len(set(steps)) for steps in found)
    return f"{lost} of {len(found) * epochs}; {double} twice; run {run.info.status}"


def together(folder: Path, size: Size) -> str:
    """Start `run`s on one fresh SQLite file and one data folder."""
    (folder / "few").mkdir()
    for path in sorted((folder / "digits").iterdir())[:100]:
        path.rename(folder / "few" / path.name)
    # With so few images a model may be worse than its input, which would end the run.
    run = ("run", "--dataset", "few", "--epochs", str(EPOCHS), "--batch-size", "8", "--force", "--allow-worse")
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "pipeline", *run, "--name", f"run{number}"],
            cwd=folder,
            env=environment(),
            stdout=subprocess.DEVNULL,
        )
        for number in range(size.together)
    ]
    finished = sum(process.wait() == 0 for process in processes)
    runs = [run for run in _runs(folder) if run.info.status == "FINISHED"]
    points = {len(_history(folder, run, name)) for run in runs for name in SAME}
    assert points == {EPOCHS}, points
    return f"{min(finished, len(runs))} of {size.together}"


def slow(folder: Path, size: Size) -> str:
    """Train with a server that answers at once and with one that is slow, in turn."""
    _pipeline(folder, "prepare", "--dataset", "digits")
    ratios = []
    with Server(folder / "server") as server, Proxy(server) as fast, Proxy(server, delay=size.delay) as late:
        for _ in range(size.rounds):
            seconds = []
            for proxy in (fast, late):
                train = (*TRAIN, "--epochs", str(size.slow_epochs))
                done = run_cli(*train, cwd=folder, MLFLOW_TRACKING_URI=proxy.uri)
                assert done.code == 0, done
                (run, *_) = mlflow.MlflowClient(server.uri).search_runs(["0"])
                seconds.append(run.data.metrics[names.TRAIN_SECONDS])
            ratios.append(seconds[1] / seconds[0])
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    return f"{statistics.median(ratios):.2f} times that without the delay{spread}; {seconds[1]:.0f} s"


def _pipeline(folder: Path, *arguments: str) -> None:
    done = run_cli(*arguments, cwd=folder)
    assert done.code == 0, done


def _runs(folder: Path) -> list[Run]:
    return list(mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_runs(["0"]))  # newest first


def _history(folder: Path, run: Run, metric: str) -> list[tuple[int, float]]:
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return [(entry.step, entry.value) for entry in client.get_metric_history(run.info.run_id, metric)]


def _fingerprint(folder: Path, run: Run) -> tuple[str, list[list[tuple[int, float]]]]:
    return run.data.tags[names.WEIGHTS], [_history(folder, run, name) for name in SAME]


if __name__ == "__main__":
    main()
