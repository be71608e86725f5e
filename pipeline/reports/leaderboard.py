"""What finished runs have to say of each other: tables by data and noise, and the difference between two."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.config import REFERENCE_VARIANCES
from pipeline.errors import PipelineError
from pipeline.noise import make_noise
from pipeline.tracking import names

if TYPE_CHECKING:
    from mlflow.entities import Run

LEVELS = tuple(f"{variance:g}" for variance in REFERENCE_VARIANCES)
_METRICS = "psnr", "ssim"
_NO_DIFFERENCE = {"data_dir", "device"}  # options that decide nothing that is compared


@dataclass(frozen=True)
class Entry:
    """A finished and evaluated run."""

    id: str
    name: str
    model: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    noise: str  # that it was trained for, in words
    psnr: float  # dB, mean over the test images at that noise
    ssim: float
    levels: Mapping[str, Mapping[str, float]]  # "psnr" and "ssim" at each of `LEVELS`
    parameters: int
    seconds: float  # of training
    milliseconds: float | None  # an image, in onnxruntime on one thread; None: not measured

    @property
    def group(self) -> tuple[str, str]:
        """Only runs of one group can be compared: the test images, by their digest, and the noise."""
        return self.tags.get(names.TEST_IMAGES_SHA256, self.tags[names.DATASET_SHA256]), self.noise


def read_entry(run: Run) -> Entry:
    """What the leaderboard says of a run.

    Raises:
        PipelineError: it is not finished, not evaluated, or its metrics are not finite.
    """
    params, tags, metrics = run.data.params, run.data.tags, run.data.metrics
    if run.info.status != "FINISHED":
        raise PipelineError(f"is {run.info.status}")
    if names.WEIGHTS not in tags or "noise" not in params:
        raise PipelineError("holds no model")
    clip_input = params.get("clip_input", "False") == "True"
    noise = make_noise(params["noise"], params["variance"], clip_input)
    labels = [noise.label, *(make_noise("gaussian", level, clip_input).label for level in LEVELS)]
    wanted = [names.noise_metric(metric, label) for metric in _METRICS for label in labels]
    missing = [name for name in wanted if name not in metrics]
    if missing:
        raise PipelineError(f"was not evaluated: it has no {missing[0]}")
    broken = [name for name in wanted if not math.isfinite(metrics[name])]
    if broken:
        raise PipelineError(f"has a {broken[0]} of {metrics[broken[0]]}")
    values = {metric: [metrics[names.noise_metric(metric, label)] for label in labels] for metric in _METRICS}
    return Entry(
        id=run.info.run_id,
        name=run.info.run_name,
        model=tags[names.MODEL],
        params=params,
        tags=tags,
        noise=noise.description,
        psnr=values["psnr"][0],
        ssim=values["ssim"][0],
        levels={metric: dict(zip(LEVELS, of[1:], strict=True)) for metric, of in values.items()},
        parameters=int(params[names.PARAMETERS]),
        seconds=metrics[names.TRAIN_SECONDS],
        milliseconds=metrics.get(names.MILLISECONDS),
    )


def grouped(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Those of the same data and noise together, the best first; the largest group first."""
    groups: defaultdict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.group].append(entry)
    for of_group in groups.values():
        of_group.sort(key=lambda entry: -entry.psnr)
    return sorted(groups.values(), key=len, reverse=True)


def pareto(entries: Sequence[Entry], cost: Callable[[Entry], float]) -> list[Entry]:
    """Those that no other beats at the same cost or less; by cost."""
    front: list[Entry] = []
    for entry in sorted(entries, key=lambda entry: (cost(entry), -entry.psnr)):
        if not front or entry.psnr > front[-1].psnr:
            front.append(entry)
    return front


def leaderboard(entries: Sequence[Entry]) -> list[list[str]]:
    """Rows of a table of one group, the head first; what differs in the parameters is a column each."""
    differing = [name for name in differing_params(entries) if name not in ("seed", "model", "size", "parameters")]
    front = {entry.id for entry in pareto(entries, lambda entry: entry.parameters)}
    head = ["", "run", "model", "seed", "PSNR", "SSIM", *(f"PSNR at {level}" for level in LEVELS)]
    rows = [[*head, "parameters", "ms/image", "training", "run id", *differing]]
    for place, entry in enumerate(entries, 1):
        rows.append(
            [
                f"{place}{' *' if entry.id in front else ''}",
                entry.name,
                entry.model,
                entry.params["seed"],
                f"{entry.psnr:.2f}",
                f"{entry.ssim:.4f}",
                *(f"{entry.levels['psnr'][level]:.2f}" for level in LEVELS),
                f"{entry.parameters:,}",
                "" if entry.milliseconds is None else f"{entry.milliseconds:.3f}",
                f"{entry.seconds:.0f} s",
                entry.id[:8],
                *(entry.params.get(name, "") for name in differing),
            ]
        )
    return rows


def differing_params(entries: Sequence[Entry]) -> list[str]:
    """The names of the parameters that not all runs share."""
    options = dict.fromkeys(name for entry in entries for name in entry.params)
    return [
        name
        for name in options
        if name not in _NO_DIFFERENCE and len({entry.params.get(name, "") for entry in entries}) > 1
    ]


def difference(one: Entry, other: Entry, all_entries: Sequence[Entry]) -> list[str]:
    """Lines that say what changed from one run to another, and whether the result differs by more than seeds do.

    Args:
        one: the former.
        other: the latter.
        all_entries: where runs that differ from these in the seed only are looked for.
    """
    lines = [
        f"{name}: {one.params.get(name, 'not set')} -> {other.params.get(name, 'not set')}"
        for name in differing_params([one, other])
    ]
    for what, tag in {
        "data": names.DATASET_SHA256,
        "test images": names.TEST_IMAGES_SHA256,
        "code (git commit)": names.GIT_COMMIT,
        "weights": names.WEIGHTS,
        "inputs and source of the training": names.fingerprint_tag("train"),
    }.items():
        values = [entry.tags.get(tag, "") for entry in (one, other)]
        if values[0] != values[1]:
            lines.append(f"{what}: {' -> '.join(value[:12] or 'unknown' for value in values)}")
    if one.group != other.group:
        return [*lines, "not the same data and noise: their own results do not compare"]
    change = other.psnr - one.psnr
    lines.append(f"PSNR: {one.psnr:.2f} -> {other.psnr:.2f} dB ({change:+.2f})")
    seeds = [_alike(entry, all_entries) for entry in (one, other)]
    if min(len(psnrs) for psnrs in seeds) < 2:
        return [*lines, "how much the seed changes is not known: at least two seeds of each are needed"]
    deviation = math.sqrt(sum(statistics.variance(psnrs) for psnrs in seeds))
    means = [statistics.mean(psnrs) for psnrs in seeds]
    size = "more" if abs(means[1] - means[0]) > 2 * deviation else "no more"
    counts = " and ".join(str(len(psnrs)) for psnrs in seeds)
    lines.append(
        f"over {counts} seeds: {means[0]:.2f} -> {means[1]:.2f} dB, {size} than twice the spread over seeds "
        f"({deviation:.2f} dB)"
    )
    return lines


def _alike(entry: Entry, all_entries: Sequence[Entry]) -> list[float]:
    """The PSNRs of the runs that differ from this one in the seed at most, one of each seed."""
    found = {}
    for other in all_entries:
        same_noise = other.noise == entry.noise and other.tags[names.DATASET] == entry.tags[names.DATASET]
        if same_noise and set(differing_params([entry, other])) <= {"seed"}:
            found[other.params["seed"]] = other.psnr
    return list(found.values())
