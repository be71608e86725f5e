"""What runs, models and hand-offs take on disk, and the removal of those that a rule names."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError, counted
from pipeline.files import read_json
from pipeline.text import say
from pipeline.tracking import names, queries, store
from pipeline.tracking.removal import remove_runs
from pipeline.tracking.run_folder import in_use, run_folder
from pipeline.verification.folder import MANIFEST

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

# What can be removed: what it is called, and which runs it names. A test holds the command line's list to this one.
RULES: dict[str, tuple[str, Callable[[MlflowRun], bool]]] = {
    "failed": ("failed or killed", lambda run: run.info.status in ("FAILED", "KILLED")),
    "worse": ("the model is no better than doing nothing", lambda run: run.data.tags.get(names.QUALITY) == "worse"),
    "deleted": ("deleted in the UI, which keeps the files", lambda run: run.info.lifecycle_stage == "deleted"),
    "all": ("all", lambda run: True),
}
_DAY = 86_400_000  # milliseconds


@dataclass
class _Use:
    """A run that is over, and what it takes."""

    run: MlflowRun
    models: list[str]  # IDs of its logged models
    handoffs: list[Path]
    bytes: dict[str, int]  # of its artifacts, models, hand-offs and training states
    kept_because: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.bytes.values())

    @property
    def is_marked(self) -> bool:
        """Whether it is deleted, and has nothing on this machine: on a server, there is nothing left to do here."""
        here = self.bytes["hand-offs"] + self.bytes["training states"]
        return self.run.info.lifecycle_stage == "deleted" and not here

    def __str__(self) -> str:
        return f"run {self.run.info.run_id} ({self.run.info.run_name}, {self.run.info.status}, {size_text(self.total)})"


def tidy(data_dir: str, artifacts_dir: str, rule: str, older_than: float, delete: bool) -> None:
    """Print what everything takes; with a rule also what it names, and remove that if `delete` says so.

    A run that is registered under any name, and so every one that an alias points to, is kept, as are runs that go on.

    Args:
        data_dir: where states of trainings are.
        artifacts_dir: where hand-offs are.
        rule: key of `RULES`; "" for none.
        older_than: days since the start of a run; younger ones are not named.
        delete: remove it.

    Raises:
        PipelineError: the store does not answer, or cannot remove them.
    """
    uses = store.ask("the runs", lambda: list(_uses(Path(data_dir), Path(artifacts_dir))))
    _print(uses, Path(artifacts_dir))
    if not rule:
        return
    latest = time.time() * 1000 - older_than * _DAY
    named = [use for use in uses if RULES[rule][1](use.run) and use.run.info.start_time <= latest]
    on_server = store.database_file() is None
    kept = [use for use in named if use.kept_because]
    marked = [use for use in named if on_server and use.is_marked and not use.kept_because]
    gone = [use for use in named if not use.kept_because and use not in marked]
    for use in kept:
        say(f"tidy: keeping {use}: {', '.join(use.kept_because)}")
    for use in gone:
        say(f"tidy: {'removing' if delete else 'would remove'} {use}")
    if delete and gone:
        _remove(gone, data_dir)
    if marked or (delete and gone and on_server):
        say("tidy: the server keeps the files of deleted runs and models until `mlflow gc` is run there")
    freed = size_text(sum(use.total for use in gone))
    hint = "" if delete or not gone else "; --delete removes them"
    done = "" if not delete else " marked as deleted" if on_server else " removed"
    say(f"tidy: {counted(len(gone), 'run')}, {freed}{done}{hint}")


def size_text(size: float) -> str:
    """A number of bytes, such as `1.5 MiB`."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"


def _uses(data: Path, artifacts: Path) -> Iterator[_Use]:
    if not store.is_there():
        return
    client = store.connect()
    handoffs = _handoffs(artifacts)
    versions: dict[str, list[str]] = {}
    for version in _all(lambda token: client.search_model_versions(page_token=token)):
        aliases = client.get_model_version(version.name, version.version).aliases
        also = f", {' and '.join(aliases)}" if aliases else ""
        versions.setdefault(version.run_id, []).append(f"it is {version.name} version {version.version}{also}")
    experiments = client.search_experiments()
    models: dict[str, list[str]] = {}
    for model in _all(
        lambda token: client.search_logged_models([one.experiment_id for one in experiments], page_token=token)
    ):
        models.setdefault(model.source_run_id or "", []).append(model.model_id)
    for run in queries.all_runs(deleted=True):
        run_id = run.info.run_id
        states = run_folder(str(data), run_id)
        if run.info.status in store.LIVING and run.info.lifecycle_stage != "deleted":
            continue
        yield _Use(
            run,
            models.get(run_id, []),
            handoffs.get(run_id, []),
            {
                "artifacts": _artifact_bytes(partial(client.list_artifacts, run_id)),
                "models": sum(
                    _artifact_bytes(partial(client.list_logged_model_artifacts, one)) for one in models.get(run_id, [])
                ),
                "hand-offs": sum(map(_folder_bytes, handoffs.get(run_id, []))),
                "training states": _folder_bytes(states),
            },
            versions.get(run_id, []) + (["a process works on it"] if in_use(states) else []),
        )


def _all(page: Callable[[str | None], Any]) -> Iterator[Any]:
    """What comes in pages, each of which names the next."""
    token = None
    while True:
        found = page(token)
        yield from found
        token = found.token
        if not token:
            return


def _handoffs(artifacts: Path) -> dict[str, list[Path]]:
    """The hand-off folders by the ID of their run."""
    found: dict[str, list[Path]] = {}
    for manifest in sorted(artifacts.glob(f"*/{MANIFEST}")):
        with suppress(PipelineError):  # not one of ours
            found.setdefault(str(read_json(manifest).get("mlflow_run_id")), []).append(manifest.parent)
    return found


def _artifact_bytes(entries: Callable[[str | None], Iterable[Any]], path: str | None = None) -> int:
    return sum(
        _artifact_bytes(entries, entry.path) if entry.is_dir else entry.file_size or 0 for entry in entries(path)
    )


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _print(uses: Sequence[_Use], artifacts: Path) -> None:
    kinds = uses[0].bytes if uses else ()
    totals = ", ".join(f"{kind} {size_text(sum(use.bytes[kind] for use in uses))}" for kind in kinds)
    say(f"tidy: {counted(len(uses), 'run')}" + (totals and f": {totals}"))
    for name, (text, names_it) in RULES.items():
        of_rule = [use for use in uses if names_it(use.run)]
        if of_rule and name != "all":
            size = size_text(sum(use.total for use in of_rule))
            say(f"tidy: {name} ({text}): {counted(len(of_rule), 'run')}, {size}")
    ours = {path for use in uses for path in use.handoffs}
    for others in (path for paths in _handoffs(artifacts).values() for path in paths if path not in ours):
        say(f"tidy: {others} ({size_text(_folder_bytes(others))}) is of no run of this store, and stays")


def _remove(uses: Sequence[_Use], data_dir: str) -> None:
    """Remove runs with all that belongs to them."""
    for use in uses:
        for path in (*use.handoffs, run_folder(data_dir, use.run.info.run_id)):
            if path.exists():
                shutil.rmtree(path)
    remove_runs([use.run.info.run_id for use in uses], [model for use in uses for model in use.models])
