"""The time that the exported files of runs take, measured in turn."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import PipelineError
from pipeline.handoff.timing import times_in_turn
from pipeline.reports.leaderboard import EvaluatedRun
from pipeline.stages.compare_artifacts import read_samples
from pipeline.text import say
from pipeline.tracking import names, store

_IMAGES = 64
_PIXELS = 2**20  # of all images together, at most
_FILE = f"{names.HANDOFF}/{names.ONNX}"


def timed(runs: Sequence[EvaluatedRun]) -> list[EvaluatedRun]:
    """The runs with the milliseconds that their files take per image, where they were exported.

    Runs on images of one size are measured together, each file in its turn, so that whatever else the machine does hits
    them alike. Files of the same network share the figure: what they differ by is the machine.
    """
    by_images = defaultdict(list)
    for run in runs:
        by_images[run.group[0]].append(run)
    found: dict[str, EvaluatedRun] = {}
    with tempfile.TemporaryDirectory() as folder:
        for alike in by_images.values():
            found |= {run.id: run for run in _timed(alike, Path(folder))}
    return [found.get(run.id, run) for run in runs]


def _timed(runs: Sequence[EvaluatedRun], folder: Path) -> list[EvaluatedRun]:
    files = {}
    for run in runs:
        try:
            files[run.id] = store.download(run.id, _FILE, str(folder / run.id))
        except PipelineError as error:
            say(f"compare: no time: {error}", err=True)
    samples = next(filter(None, (read_samples(run.id) for run in runs if run.id in files)), None)
    if samples is None:
        return []
    shape = samples[1].shape[1:]
    count = max(1, min(_IMAGES, _PIXELS // (shape[1] * shape[2])))
    images = np.random.default_rng(0).random((count, *shape), dtype=np.float32)
    try:
        seconds = times_in_turn(dict.fromkeys(files.values(), images))
    except Exception as error:  # a file that is damaged, in any way
        raise PipelineError(f"the exported files cannot be timed: {error}") from error
    of_network: defaultdict[tuple[str, str, int], list[float]] = defaultdict(list)
    for run in runs:
        if run.id in files:
            of_network[_network(run)] += seconds[files[run.id]]
    found = []
    for run in runs:
        if times := of_network.get(_network(run)):
            low, middle, high = 1000 * np.percentile(times, (25, 50, 75)) / count
            found.append(replace(run, milliseconds=float(middle), spread=float(high - low) / 2))
    return found


def _network(run: EvaluatedRun) -> tuple[str, str, int]:
    return run.params["model"], run.params.get("size", ""), run.parameters
