"""Comparing finished runs: a table for each combination of data and noise, and the difference between two runs."""

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
from pipeline.scoring.quality import ESTIMATED, LEVEL, PSNR, Quality
from pipeline.tracking import names, scores

if TYPE_CHECKING:
    from mlflow.entities import Run

LEVELS = tuple(f"{variance:g}" for variance in REFERENCE_VARIANCES)
_STAR = "*"
LAST = "run id"  # column before those of the parameters that differ
_SHOWN_PARAMS = "seed", "loss"
_NO_DIFFERENCE = {"data_dir", "device"}  # options that do not change a result
_COMPARED_TAGS = {
    "data": names.DATASET_SHA256,
    "test images": names.TEST_IMAGES_SHA256,
    "code (git commit)": names.GIT_COMMIT,
    "weights": names.WEIGHTS,
    "inputs and source of the training": names.fingerprint_tag("train"),
}


@dataclass(frozen=True)
class EvaluatedRun:
    """A finished and evaluated run."""

    id: str
    name: str
    model: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    noise: str  # what it was trained with, in words
    quality: Quality  # on the test images with that noise
    scores: Mapping[str, float]  # all metrics of the output on these images
    levels: Mapping[str, Mapping[str, float]]  # "psnr" in dB at each of `LEVELS`; empty for recorded noise
    parameters: int
    seconds: float  # training took
    milliseconds: float | None  # per image, in onnxruntime on one thread; None: not measured

    @property
    def psnr(self) -> float:
        """In dB, or its estimate; NaN where there is no PSNR."""
        return math.nan if self.quality.metric == LEVEL else self.quality.output

    @property
    def group(self) -> tuple[str, str]:
        """Digest of the test images, and the noise: only runs that agree in both can be compared."""
        return self.tags.get(names.TEST_IMAGES_SHA256, self.tags[names.DATASET_SHA256]), self.noise


def read_run(run: Run) -> EvaluatedRun:
    """Read from an MLflow run what the leaderboard shows.

    Raises:
        PipelineError: the run is not finished, not evaluated, lacks what a run of this pipeline has, or its metrics are
            not finite. The message does not name the run.
    """
    if run.info.status != "FINISHED":
        raise PipelineError(f"it is {run.info.status}")
    if names.WEIGHTS not in run.data.tags or "noise" not in run.data.params:
        raise PipelineError("it holds no model")
    try:
        return _read(run)
    except KeyError as error:
        raise PipelineError(f"it has no {error}") from error
    except ValueError as error:
        raise PipelineError(f"it has a parameter that is no number: {error}") from error


def _read(run: Run) -> EvaluatedRun:
    params, tags, metrics = run.data.params, run.data.tags, run.data.metrics
    for name in _SHOWN_PARAMS:
        if name not in params:
            raise KeyError(name)
    clip_input = params.get("clip_input", "False") == "True"
    noise = make_noise(params["noise"], params["variance"], clip_input)
    levels = {} if noise.is_recorded else {level: make_noise("gaussian", level, clip_input).label for level in LEVELS}
    found = scores.read(metrics, noise.label)
    has_psnr = not found["denoised"].keys() & {LEVEL, "mse_estimated"}
    wanted = [names.noise_metric("psnr", label) for label in (noise.label, *levels.values())]
    missing = [name for name in wanted if name not in metrics] if has_psnr else []
    if missing:
        raise PipelineError(f"it was not evaluated: it has no {missing[0]}")
    broken = [name for name, value in metrics.items() if name.startswith("test/") and not math.isfinite(value)]
    if broken:
        raise PipelineError(f"it has a {broken[0]} of {metrics[broken[0]]}")
    return EvaluatedRun(
        id=run.info.run_id,
        name=run.info.run_name,
        model=tags[names.MODEL],
        params=params,
        tags=tags,
        noise=make_noise("recorded", clip=clip_input).description if noise.is_recorded else noise.description,
        quality=Quality.of(found),
        scores=found["denoised"],
        levels={"psnr": {level: metrics[names.noise_metric("psnr", label)] for level, label in levels.items()}},
        parameters=int(params[names.PARAMETERS]),
        seconds=metrics[names.TRAIN_SECONDS],
        milliseconds=metrics.get(names.MILLISECONDS),
    )


def grouped(runs: Sequence[EvaluatedRun]) -> list[list[EvaluatedRun]]:
    """Runs on the same data and noise together, best first; the largest group first.

    Runs without a PSNR cannot be ranked, and stay in their order.
    """
    groups: defaultdict[tuple[str, str], list[EvaluatedRun]] = defaultdict(list)
    for run in runs:
        groups[run.group].append(run)
    for of_group in groups.values():
        of_group.sort(key=lambda run: 0.0 if math.isnan(run.psnr) else -run.psnr)
    return sorted(groups.values(), key=len, reverse=True)


def pareto(runs: Sequence[EvaluatedRun], cost: Callable[[EvaluatedRun], float]) -> list[EvaluatedRun]:
    """The runs that no other run beats at the same or a lower cost, by cost."""
    front: list[EvaluatedRun] = []
    for run in sorted(runs, key=lambda run: (cost(run), -run.psnr)):
        if not front or run.psnr > front[-1].psnr:
            front.append(run)
    return front


def leaderboard(runs: Sequence[EvaluatedRun]) -> list[list[str]]:
    """The table of one group as rows, header first; every parameter in which the runs differ has a column.

    Which figures of quality there are depends on whether there are clean images, other captures, or neither.
    """
    differing = [name for name in differing_params(runs) if name not in ("seed", "model", "size", "parameters")]
    front = {run.id for run in pareto(runs, lambda run: run.parameters)}
    figures = _FIGURES[runs[0].quality.metric]
    levels = [level for level in LEVELS if level in runs[0].levels["psnr"]]
    head = ["", "run", "model", "seed", *(name for name, _ in figures), *(f"PSNR at {level}" for level in levels)]
    rows = [[*head, "parameters", "ms/image", "training", LAST, *differing]]
    for place, run in enumerate(runs, 1):
        rows.append(
            [
                "" if math.isnan(run.psnr) else f"{place}{f' {_STAR}' if run.id in front else ''}",
                run.name,
                run.model,
                run.params["seed"],
                *(text(run) for _, text in figures),
                *(f"{run.levels['psnr'][level]:.2f}" for level in levels),
                f"{run.parameters:,}",
                "" if run.milliseconds is None else f"{run.milliseconds:.3f}",
                f"{run.seconds:.0f} s",
                run.id[:8],
                *(run.params.get(name, "") for name in differing),
            ]
        )
    return rows


def note_on(board: Sequence[Sequence[str]]) -> str:
    """What the stars in a leaderboard mean; "" if it has none."""
    return (
        f"{_STAR} the best of the runs here that have no more parameters"
        if any(row[0].endswith(_STAR) for row in board)
        else ""
    )


def _gain(run: EvaluatedRun) -> str:
    """Over the clipped input; runs of early versions do not know it."""
    return "" if math.isnan(run.quality.gain) else f"{run.quality.gain:+.2f}"


# The columns of the quality, by what it is.
_FIGURES: dict[str, list[tuple[str, Callable[[EvaluatedRun], str]]]] = {
    PSNR: [
        ("PSNR", lambda run: f"{run.psnr:.2f}"),
        ("gain", _gain),
        ("SSIM", lambda run: f"{run.scores['ssim']:.4f}"),
    ],
    ESTIMATED: [
        ("estimated PSNR", lambda run: "not known" if math.isnan(run.psnr) else f"{run.psnr:.2f}"),
        ("gain", _gain),
        ("", lambda run: run.quality.note),
    ],
    LEVEL: [
        ("noise before", lambda run: f"{run.quality.input:.4f}"),
        ("noise after", lambda run: f"{run.quality.output:.4f}"),
        ("removed", lambda run: f"{run.scores['removed']:.4f}"),
        ("its whiteness", lambda run: f"{run.scores['whiteness']:.3f}"),
    ],
}


def worse_than_nothing(runs: Sequence[EvaluatedRun]) -> list[str]:
    """A line for every run that is no better than doing nothing."""
    return [f"{run.name} ({run.id[:8]}): {run.quality.verdict}" for run in runs if run.quality.verdict]


def differing_params(runs: Sequence[EvaluatedRun]) -> list[str]:
    """The names of the parameters that not all runs share."""
    options = dict.fromkeys(name for run in runs for name in run.params)
    return [
        name for name in options if name not in _NO_DIFFERENCE and len({run.params.get(name, "") for run in runs}) > 1
    ]


def difference(former: EvaluatedRun, latter: EvaluatedRun, all_runs: Sequence[EvaluatedRun]) -> list[str]:
    """Lines that say what changed from one run to another, and whether the result differs by more than seeds do.

    Args:
        former: the one to start from.
        latter: the one that changed.
        all_runs: searched for runs that differ from these two only in the seed.
    """
    lines = _changes(former, latter)
    if former.group != latter.group:
        return [*lines, "the data or the noise differ, so the PSNRs cannot be compared"]
    if math.isnan(former.psnr) or math.isnan(latter.psnr):
        return [*lines, f"{former.quality.text}, and {latter.quality.text}: without a PSNR, they cannot be ranked"]
    change = latter.psnr - former.psnr
    return [
        *lines,
        f"PSNR: {former.psnr:.2f} -> {latter.psnr:.2f} dB ({change:+.2f})",
        _significance(_over_seeds(former, all_runs), _over_seeds(latter, all_runs)),
    ]


def _changes(former: EvaluatedRun, latter: EvaluatedRun) -> list[str]:
    lines = [
        f"{name}: {former.params.get(name, 'not set')} -> {latter.params.get(name, 'not set')}"
        for name in differing_params([former, latter])
    ]
    for what, tag in _COMPARED_TAGS.items():
        values = [run.tags.get(tag, "") for run in (former, latter)]
        if values[0] != values[1]:
            lines.append(f"{what}: {' -> '.join(value[:12] or 'unknown' for value in values)}")
    return lines


def _significance(former: Sequence[float], latter: Sequence[float]) -> str:
    """Whether two sets of PSNRs in dB, one per seed each, differ by more than twice their spread."""
    if min(len(former), len(latter)) < 2:
        return "the effect of the seed is unknown: it takes at least two seeds of each"
    means = statistics.mean(former), statistics.mean(latter)
    spread = math.sqrt(statistics.variance(former) + statistics.variance(latter))
    size = "more" if abs(means[1] - means[0]) > 2 * spread else "no more"
    return (
        f"over {len(former)} and {len(latter)} seeds: {means[0]:.2f} -> {means[1]:.2f} dB, {size} than twice the "
        f"spread over seeds ({spread:.2f} dB)"
    )


def _over_seeds(run: EvaluatedRun, all_runs: Sequence[EvaluatedRun]) -> list[float]:
    """The PSNRs of the runs that differ from this one in the seed at most, one per seed."""
    found = {}
    for other in all_runs:
        same_noise = other.noise == run.noise and other.tags[names.DATASET] == run.tags[names.DATASET]
        if same_noise and set(differing_params([run, other])) <= {"seed"}:
            found[other.params["seed"]] = other.psnr
    return list(found.values())
