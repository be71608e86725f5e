"""Kill commands at moments spread over all that they do, and repeat them: does it end as if nothing had been?

    python -m benchmarks.kills [--kills N] [--only REGEX] [--seed N]

Needs `pip install -e '.[test]'`, at the root of the repository. Prints a Markdown table; what differs goes to
stderr. The exit code is 1 if something does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT / "tests")]

from warm import forkserver, run_calls, run_forked

forkserver.set_forkserver_preload(["benchmarks.preload"])

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)  # in turn
IMAGES = 200
_GOLDEN = (5**0.5 - 1) / 2  # steps of this size around a circle never come close to one another
_TRAINING = ("--dataset", "digits", "--epochs", "2", "--batch-size", "16")
_OFTEN = ("--checkpoint-every", "0.05")
_HANDOFF = ("--name", "small", "--allow-worse")
_DOCTOR = (("doctor", "--fix"), ("doctor",))
_VERIFY = ("verify", "artifacts/small")


@dataclass(frozen=True)
class Victim:
    """A command that is killed.

    Attributes:
        command: its words.
        after: the victim that was done before it.
        checks: commands that must do what they are asked afterwards.
        more: words with which an interrupted run is resumed, besides `--resume`.
    """

    command: tuple[str, ...]
    after: str
    checks: tuple[tuple[str, ...], ...] = _DOCTOR
    more: tuple[str, ...] = ()


VICTIMS = {
    "prepare": Victim(("prepare", "--dataset", "digits"), ""),
    "making the database": Victim(("train", "--dataset", "digits", "--epochs", "1"), "prepare"),  # most of its time
    "train": Victim(("train", *_TRAINING, *_OFTEN), "prepare", more=_OFTEN),
    "evaluate": Victim(("evaluate",), "train"),
    "export": Victim(("export", "--dataset", "digits", *_HANDOFF), "evaluate", checks=(*_DOCTOR, _VERIFY)),
    "run": Victim(("run", *_TRAINING, *_OFTEN, *_HANDOFF), "", checks=(*_DOCTOR, _VERIFY), more=_HANDOFF),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="how many of each command; by default 50")
    parser.add_argument("--only", default="", help="only the commands that match this regular expression")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    # Whoever was started in the background of a script ignores Ctrl-C, and so would the commands.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print("| killed | kills | survived |\n|---|---:|---:|", flush=True)
    lost = 0
    with tempfile.TemporaryDirectory() as scratch:
        course = Course(Path(scratch))
        for name, victim in VICTIMS.items():
            if re.search(arguments.only, name):
                survived = course.survived(victim, arguments.kills, random.Random(f"{arguments.seed} {name}"))
                print(f"| {name} | {arguments.kills} | {survived} |", flush=True)
                lost += arguments.kills - survived
    sys.exit(lost > 0)


class Course:
    """A project in a folder, and copies of it after some commands, to start from again and again."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._project = scratch / "project"  # always in the same place: a store knows where its artifacts are
        self._copies = {"": scratch / "nothing done"}
        _write_digits(self._copies[""] / "digits")

    def survived(self, victim: Victim, kills: int, moments: random.Random) -> int:
        """How many of so many kills leave no trace once the command is repeated, or resumed as `doctor` says.

        Every other kill comes at a moment, the others just before a change of a file, as most that can go wrong lies
        between two changes. Both are spread evenly, however many they are so far.
        """
        self._restore(victim.after)
        undisturbed = self._start(victim)
        assert undisturbed
        seconds, changes = undisturbed
        assert changes, f"{' '.join(victim.command)} changes no file: there is nothing to interrupt"
        wanted = self._check([], victim.checks)
        survived = number = 0
        first = moments.random()
        while number < kills:
            at, sent = (first + number // 2 * _GOLDEN) % 1, SIGNALS[number // 2 % len(SIGNALS)]
            moment = {"seconds": at * seconds} if number % 2 == 0 else {"change": 1 + int(at * changes)}
            self._restore(victim.after)
            if ended := self._start(victim, sent, **moment):  # before the kill came
                seconds, changes = min(0.98 * seconds, ended[0]), min(changes - 1, ended[1])
                continue
            number += 1
            command = self._resumed(victim) if moments.random() < 0.5 else victim.command
            try:
                found = self._check([command], victim.checks)
                if command[0] == "train" and found["runs"] == wanted["runs"] * 2:
                    del found["runs"][1:]  # the one that was killed had finished, and `train` always trains again
                differences = [line for key in wanted for line in _differences(key, wanted[key], found[key])]
            except AssertionError as error:
                differences = [str(error)]
            survived += not differences
            for line in differences or ["as if nothing had been"]:
                print(
                    f"{number} {victim.command[0]}, {sent.name} at {moment}, then {' '.join(command)}: {line}",
                    file=sys.stderr,
                    flush=True,
                )
        return survived

    def _restore(self, after: str) -> None:
        if after not in self._copies:
            self._restore(VICTIMS[after].after)
            self._start(VICTIMS[after])
            self._copies[after] = self._scratch / after
            shutil.copytree(self._project, self._copies[after])
        shutil.rmtree(self._project, ignore_errors=True)
        shutil.copytree(self._copies[after], self._project)

    def _start(
        self, victim: Victim, sent: signal.Signals | None = None, seconds: float | None = None, change: int = 0
    ) -> tuple[float, int] | None:
        """Run a command.

        Args:
            victim: the command.
            sent: the signal that stops it.
            seconds: when it is sent.
            change: or before which change of a file.

        Returns:
            The seconds that it took, and how many files it changed; None if it was stopped.
        """
        changes = forkserver.Value("i", 0)
        with tempfile.TemporaryDirectory(dir=self._scratch) as said:
            arguments = (victim.command, self._project, said, changes, change, sent)
            process = forkserver.Process(target=_run_counted, args=arguments)
            began = time.monotonic()
            process.start()
            process.join(seconds)
            if sent and process.is_alive() and process.pid:
                os.kill(process.pid, sent)
            process.join()
            took = time.monotonic() - began
            err = Path(said) / "err"
            # Before the pipeline is there to say what stopped it, Python does, or nobody.
            is_stopped = not err.exists() or (sent and re.search("Stopped by|KeyboardInterrupt", err.read_text()))
            if process.exitcode == 0 and not is_stopped:
                return took, changes.value
            assert sent, err.read_text()
            return None

    def _resumed(self, victim: Victim) -> tuple[str, ...]:
        """The command that goes on, as `doctor --fix` says; the same again where it says none."""
        if not victim.more:
            return victim.command
        ((_, said, _),), _ = self._run([("doctor", "--fix")])
        found = re.search(r"continue it with: .*--resume (\w+)", said)
        return (victim.command[0], "--resume", found[1], *victim.more) if found else victim.command

    def _check(self, commands: Sequence[Sequence[str]], checks: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Run commands and checks, which must all end with 0; the outcome."""
        results, outcome = self._run([*commands, *checks])
        for command, (ended, out, err) in zip([*commands, *checks], results, strict=True):
            assert ended == 0, f"{' '.join(command)} ended with {ended}: {out} {err}"
        return outcome

    def _run(self, commands: Sequence[Sequence[str]]) -> tuple[list[tuple[int, str, str]], dict[str, Any]]:
        """What commands end with and say, in a process of their own, and their outcome."""
        results = self._scratch / "results"
        process = forkserver.Process(target=_run_to_outcome, args=(commands, self._project, results))
        process.start()
        process.join()
        assert process.exitcode == 0
        return json.loads(results.read_text())


def _run_counted(
    command: Sequence[str], project: Path, said: str, changes: Any, change: int, sent: signal.Signals | None
) -> None:
    """Run a command and count the changes of files in `project`; before the one with the number `change`, stop it."""

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        is_change = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
        if event == "open":
            is_change = isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if not (is_change and isinstance(arguments[0], str | Path)):
            return
        if Path(arguments[0]).absolute().is_relative_to(project):
            with changes.get_lock():
                changes.value += 1
                is_due = changes.value == change
            if is_due and sent:
                os.kill(os.getpid(), sent)

    sys.addaudithook(count)
    run_forked("pipeline", list(command), project, _environment(), said)


def _run_to_outcome(commands: Sequence[Sequence[str]], project: Path, results: Path) -> None:
    run_calls(commands, project, _environment(), results)
    results.write_text(json.dumps([json.loads(results.read_text()), _outcome(project)]))


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}


def _write_digits(folder: Path) -> None:
    from PIL import Image

    from pipeline.data.sources.bundled_mnist import BundledMNIST

    folder.mkdir(parents=True)
    for index, digit in enumerate(BundledMNIST().images()[1][:IMAGES, 0]):
        Image.fromarray(digit).save(folder / f"{index:04}.png")


def _outcome(project: Path) -> dict[str, Any]:
    """What must not depend on what happened before: all files, and all that the store has."""
    files = [path for path in project.rglob("*") if not path.is_relative_to(project / "mlruns")]
    if not (project / "mlflow.db").exists():
        return {"runs": [], "files": _shown(files, project, "")}
    import mlflow

    from pipeline.tracking import names

    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    times = (names.TRAIN_SECONDS, names.IMAGES_PER_SECOND, names.MILLISECONDS)

    def points(run_id: str, name: str) -> list[tuple[int, float]]:
        return [(point.step, name in times or point.value) for point in client.get_metric_history(run_id, name)]

    runs, finished = client.search_runs(["0"]), []
    for run in runs:
        folder, run_id = project / "data" / "runs" / run.info.run_id, run.info.run_id
        if run.info.status != "FINISHED":  # it can still be resumed
            assert run.info.status in ("KILLED", "FAILED"), run.info.status
            lock = folder.with_name(f"{run_id}.lock")
            files = [path for path in files if not path.is_relative_to(folder) and path != lock]
            continue
        finished.append(
            {
                **{name: points(run_id, name) for name in sorted(run.data.metrics)},
                "weights": run.data.tags.get(names.WEIGHTS),
                # A tag that was taken back is empty.
                "tags": sorted({key for key, value in run.data.tags.items() if value} - {names.RESUMABLE}),
                "params": sorted(run.data.params),
                "inputs": len(run.inputs.dataset_inputs),
                "artifacts": _shown(Path(run.info.artifact_uri).rglob("*"), Path(run.info.artifact_uri), run_id),
            }
        )
    over = [run.info.run_id for run in runs if run.info.status == "FINISHED"]
    models = [model for model in client.search_logged_models(["0"]) if model.source_run_id in over]
    (run_id, *_) = over or [""]
    return {
        "runs": finished,
        "models": [(str(model.status), len([*Path(model.artifact_location).rglob("*")])) for model in models],
        "files": _shown(files, project, run_id),
    }


_VARY = re.compile(  # times are in them, or the order of what was sent
    r"mlflow\.db|/(manifest\.json|MODEL_CARD\.md|parity_report\..*|SHA256SUMS|.*\.html|console\.log)$"
)
_OF_IMAGES = re.compile(r"timestamp\+\d+\+[-\w]+")  # in the names of pictures of the step slider


def _shown(paths: Any, folder: Path, run_id: str) -> dict[str, str]:
    """Files and folders by their names in `folder`, with their digests where these must be the same in every run."""
    shown = {}
    for path in sorted(paths):
        name = _OF_IMAGES.sub("", path.relative_to(folder).as_posix()).replace(run_id or "-", "RUN")
        content = path.read_bytes().replace(run_id.encode() or b"-", b"RUN") if path.is_file() else b""
        shown[name] = "" if _VARY.search(f"/{name}") else hashlib.sha256(content).hexdigest()[:12]
    return shown


def _differences(what: str, wanted: Any, found: Any) -> list[str]:
    if wanted == found:
        return []
    pairs: list[tuple[Any, Any, Any]] = []
    if isinstance(wanted, dict) and isinstance(found, dict):
        pairs = [(key, wanted.get(key), found.get(key)) for key in {**wanted, **found}]
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = [(number, *pair) for number, pair in enumerate(zip(wanted, found, strict=True))]
    inner = [line for key, *pair in pairs for line in _differences(f"{what} {key}", *pair)]
    return inner or [f"{what}: {found} instead of {wanted}"]


if __name__ == "__main__":
    main()
