"""What a run says of how it ended: a tag, the first paragraph of its description, the traceback, what was printed."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError, QualityError, one_line
from pipeline.signals import Stopped, as_stop
from pipeline.text import without_secrets
from pipeline.tracking import console, names
from pipeline.tracking.store import ERRORS, LIVING, connect

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

    from pipeline.tracking.run import OpenRun

_MOST_IN_A_TAG = 4000  # characters; MLflow keeps 8,000
VANISHED = "process vanished"
Tag = Callable[[str], str | None]  # the value of a tag of a run, by its name


def is_resumable(tag: Tag) -> bool:
    """Whether a run that was interrupted can be resumed: a training, a sweep or a search can."""
    return tag(names.SEED) is not None or tag(names.TRIALS) is not None


def resumption(tag: Tag, run_id: str) -> str:
    """How an interrupted run is resumed: by a command; a sweep or a search, which needs its options again, in words."""
    if tag(names.SEED) is None:
        return f"the same command and --resume {run_id}"
    command = "train" if tag(names.HANDOFF_OPTIONS) is None else "run"
    return f"python -m pipeline {command} --resume {run_id}"


def reason_tags(error: BaseException, tag: Tag, run_id: str, text: str = "") -> dict[str, str]:
    """The tags that say why a run ended as it did, with the description, which begins with it.

    Args:
        error: what ended it.
        tag: gives the tags that the run has.
        run_id: of the run.
        text: the error in one line, if it is to be said in other words than its own.
    """
    error, note = as_stop(error), tag(names.NOTE)
    if isinstance(error, Stopped):
        resume = f"; continue with: {resumption(tag, run_id)}" if is_resumable(tag) else ""
        return {
            names.INTERRUPTED: f"by {error.name}",
            names.RESUMABLE: str(is_resumable(tag)).lower(),
            names.NOTE: with_reason(f"{names.KILLED}by {error.name}{resume}", note),
        }
    text = (text or one_line(error))[:_MOST_IN_A_TAG]
    beginning = names.REFUSED if isinstance(error, QualityError) else names.FAILED
    return {names.ERROR: text, names.NOTE: with_reason(f"{beginning}{text}", note)}


def vanished_tags(tag: Tag, run_id: str, resumable: bool, last: str) -> dict[str, str]:
    """The tags of a run whose process is gone without a word, with the description.

    Args:
        tag: gives the tags that the run has.
        run_id: of the run.
        resumable: whether it can be resumed.
        last: the last line that it printed; "" if that is not known.
    """
    text = "its process vanished: kill -9, no memory left, or the machine stopped"
    said = f"; the last it said: {last[:_MOST_IN_A_TAG]}" if last else ""
    resume = f"; continue with: {resumption(tag, run_id)}" if resumable else ""
    return {
        names.INTERRUPTED: VANISHED,
        names.RESUMABLE: str(resumable).lower(),
        names.NOTE: with_reason(f"{names.KILLED}{text}{said}{resume}", tag(names.NOTE)),
    }


def with_reason(reason: str, note: str | None) -> str:
    """A description that begins with a reason, instead of another one."""
    return "\n\n".join(part for part in (reason, without_reason(note or "")) if part)


def without_reason(note: str) -> str:
    """A description without the reason that it begins with."""
    first, _, rest = note.partition("\n\n")
    return rest if first.startswith((names.FAILED, names.KILLED, names.REFUSED)) else note


def tell(run: OpenRun, error: BaseException) -> None:
    """Have a run say what went wrong."""
    stop = as_stop(error)
    console.note(f"Stopped by {stop.name}" if isinstance(stop, Stopped) else f"Error: {one_line(error)}")
    with run.together():
        run.log_tags(reason_tags(error, run.tag, run.id))
        run.log_text(traceback_of(error), names.TRACEBACK)


def take_back(run: OpenRun) -> None:
    """Have a run no longer say what went wrong: it goes on, or went well this time."""
    tags = {name: "" for name in (names.INTERRUPTED, names.ERROR) if run.tag(name)}
    if names.INTERRUPTED in tags:
        tags[names.RESUMABLE] = "false"
    note = run.tag(names.NOTE) or ""
    if without_reason(note) != note:
        tags[names.NOTE] = without_reason(note)
    run.log_tags(tags)


def traceback_of(error: BaseException) -> str:
    """The traceback of an error, as a text that anybody may see; it begins with the time."""
    lines = traceback.format_exception(error)
    return without_secrets(f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')}\n\n{''.join(lines)}")


def end_run(run_id: str, error: BaseException, text: str = "") -> None:
    """Set the status of a run that nobody has opened and that is not over, and why, if the store can be asked now."""
    with suppress(*ERRORS, PipelineError):
        if connect().get_run(run_id).info.status in LIVING:
            set_reason(run_id, error, text)
            connect().set_terminated(run_id, status_of(error))


def status_of(error: BaseException) -> str:
    """The status of a run that ended with an error."""
    return "KILLED" if isinstance(as_stop(error), Stopped) else "FAILED"


def set_reason(run_id: str, error: BaseException, text: str = "") -> None:
    """Have a run that nobody has opened say why it ended, and what was printed, if the store can be asked now.

    Args:
        run_id: of the run.
        error: what ended it.
        text: that in one line, if it is to be said in other words.
    """
    with suppress(*ERRORS, PipelineError):
        tags = connect().get_run(run_id).data.tags
        for key, value in reason_tags(error, tags.get, run_id, text).items():
            connect().set_tag(run_id, key, value)
        connect().log_text(run_id, traceback_of(error), names.TRACEBACK)
        if printed := console.text():
            connect().log_text(run_id, printed, names.CONSOLE)


def settle(run: MlflowRun, resumable: bool) -> None:
    """Say of a run whose process on this machine is gone that it was killed, with what it had printed until then."""
    run_id, tags = run.info.run_id, run.data.tags
    printed = Path(tags[names.FOLDER]).with_name(run_id) / names.CONSOLE
    lines = printed.read_text(errors="replace").splitlines() if printed.is_file() else []
    said = vanished_tags(tags.get, run_id, resumable, lines[-1] if lines else "")
    for key, value in said.items():
        connect().set_tag(run_id, key, value)
    if lines:
        with suppress(*ERRORS):  # it stays on this machine, for whoever resumes the run
            connect().log_artifact(run_id, str(printed))
    connect().set_terminated(run_id, "KILLED")
