"""Comparing finished runs: what is read of them, which may be compared, and in which order they rank."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.config import MAX_CHANNELS, NUMBERS, REFERENCE_VARIANCES, Config
from pipeline.errors import PipelineError
from pipeline.models.facts import multiply_adds_of
from pipeline.noise import make_noise, parse_variance
from pipeline.scoring.quality import LEVEL, PSNR, Quality
from pipeline.tracking import names, scores

if TYPE_CHECKING:
    from mlflow.entities import Run

LEVELS = tuple(f"{variance:g}" for variance in REFERENCE_VARIANCES)
_SHOWN_PARAMS = "seed", "loss"
_NO_DIFFERENCE = {"data_dir", "device"}  # options that do not change a result


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
    multiply_adds: float | None  # per pixel; None: of a network that this version does not have
    seconds: float  # training took
    milliseconds: float | None = None  # per image, as measured for this comparison; None: not measured
    spread: float = 0.0  # of these milliseconds: half of the interquartile range

    @property
    def psnr(self) -> float:
        """In dB, or its estimate; NaN where there is no PSNR."""
        return math.nan if self.quality.metric == LEVEL else self.quality.output

    @property
    def verdict(self) -> str:
        """The quality in words."""
        if not self.quality.is_better:
            return "no better than its input"
        if self.quality.metric == LEVEL:
            return "less noise than its input"  # which is no proof that it is better
        is_known = self.quality.metric != PSNR or not math.isnan(self.quality.input)
        return "better than its input" if is_known else "not known"

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
    params, tags, metrics = _as_used(run.data.params, run.data.tags), run.data.tags, run.data.metrics
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
        multiply_adds=multiply_adds_of(
            params["model"], params.get("size", ""), int(params[names.PARAMETERS]), MAX_CHANNELS
        ),
        seconds=metrics[names.TRAIN_SECONDS],
    )


def _as_used(params: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, str]:
    """Parameters as the pipeline logs them: `mlflow run` logs what was typed, such as `1e-2`, in the quotes of a shell.

    Of former versions, it also logged the default of `--variance` where `--sigma` was given.
    """
    used = {}
    for name, text in params.items():
        text = text[1:-1] if len(text) > 1 and text[0] == text[-1] == "'" else text
        if isinstance(getattr(Config, name, None), bool):
            text = text.capitalize()
        elif name in NUMBERS:
            with suppress(ValueError):  # it is "auto"
                text = str(NUMBERS[name].kind(text))
        used[name] = text
    if used["noise"] == "gaussian":
        used["variance"] = str(parse_variance(tags.get(names.VARIANCE, used["variance"])))
    return used


@dataclass(frozen=True)
class Kind:
    """Runs on the same data and noise that differ in nothing but the seed: one row of a leaderboard."""

    runs: list[EvaluatedRun] = field(default_factory=list)  # the best first; at least one

    @property
    def best(self) -> EvaluatedRun:
        return self.runs[0]

    @property
    def psnr(self) -> float:
        """In dB, the mean over the runs; NaN where there is none."""
        return self.mean(lambda run: run.psnr)

    @property
    def is_ranked(self) -> bool:
        """Whether there is a PSNR, and all of the runs are better than doing nothing."""
        return not math.isnan(self.psnr) and all(run.quality.is_better for run in self.runs)

    def mean(self, of: Callable[[EvaluatedRun], float]) -> float:
        return statistics.mean(map(of, self.runs))

    def deviation(self, of: Callable[[EvaluatedRun], float]) -> float:
        """The standard deviation over the runs; 0 of a single one."""
        return statistics.stdev(map(of, self.runs)) if len(self.runs) > 1 else 0.0


def grouped(runs: Sequence[EvaluatedRun]) -> list[list[Kind]]:
    """Runs on the same data and noise together; the largest group first.

    In a group the best is the first; those that are no better than doing nothing are the last, and before them those
    without a PSNR, which cannot be ranked and stay in their order.
    """
    groups: defaultdict[tuple[str, str], list[EvaluatedRun]] = defaultdict(list)
    for run in runs:
        groups[run.group].append(run)
    found = [
        sorted(_kinds(group), key=lambda kind: (_is_worse(kind), 0.0 if math.isnan(kind.psnr) else -kind.psnr))
        for group in groups.values()
    ]
    return sorted(found, key=lambda kinds: sum(len(kind.runs) for kind in kinds), reverse=True)


def _is_worse(kind: Kind) -> bool:
    return not all(run.quality.is_better for run in kind.runs)


def _kinds(group: Sequence[EvaluatedRun]) -> list[Kind]:
    """A run with a seed that is there already, as after a change of the source, is of another kind."""
    kinds: defaultdict[tuple[object, int], Kind] = defaultdict(Kind)
    seen: defaultdict[tuple[object, str], int] = defaultdict(int)
    for run in sorted(group, key=lambda run: 0.0 if math.isnan(run.psnr) else -run.psnr):
        same = frozenset(item for item in run.params.items() if item[0] not in {*_NO_DIFFERENCE, names.SEED})
        kinds[same, seen[same, run.params["seed"]]].runs.append(run)
        seen[same, run.params["seed"]] += 1
    return list(kinds.values())


def pareto(
    kinds: Sequence[Kind], cost: Callable[[Kind], float], spread: Callable[[Kind], float] = lambda kind: 0.0
) -> list[Kind]:
    """The ranked kinds that no other beats at the same or a lower cost, by cost.

    Args:
        kinds: of one group.
        cost: of a kind.
        spread: how far its cost is known: costs that differ by no more than theirs together are the same.
    """

    def beats(other: Kind, kind: Kind) -> bool:
        difference, known = cost(other) - cost(kind), spread(other) + spread(kind)
        return difference <= known and (other.psnr > kind.psnr or (other.psnr == kind.psnr and difference < -known))

    ranked = [kind for kind in kinds if kind.is_ranked]
    return sorted((kind for kind in ranked if not any(beats(other, kind) for other in ranked)), key=cost)


def worse_than_nothing(kinds: Sequence[Kind]) -> list[str]:
    """A line for every run that is no better than doing nothing."""
    runs = [run for kind in kinds for run in kind.runs]
    return [f"{run.name} ({run.id[:8]}): {run.quality.verdict}" for run in runs if run.quality.verdict]


def differing_params(runs: Sequence[EvaluatedRun]) -> list[str]:
    """The names of the parameters that not all runs share."""
    options = dict.fromkeys(name for run in runs for name in run.params)
    return [
        name for name in options if name not in _NO_DIFFERENCE and len({run.params.get(name, "") for run in runs}) > 1
    ]
