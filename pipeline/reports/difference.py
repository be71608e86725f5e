"""What changed from one run to another, and whether the result differs by more than seeds do."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from pipeline.reports.leaderboard import EvaluatedRun, differing_params
from pipeline.tracking import names

_COMPARED_TAGS = {
    "data": names.DATASET_SHA256,
    "test images": names.TEST_IMAGES_SHA256,
    "code (git commit)": names.GIT_COMMIT,
    "weights": names.WEIGHTS,
    "inputs and source of the training": names.fingerprint_tag("train"),
}


def difference(former: EvaluatedRun, latter: EvaluatedRun, all_runs: Sequence[EvaluatedRun]) -> list[str]:
    """Lines that say what changed from one run to another, and whether the result differs by more than seeds do.

    Args:
        former: the one to start from.
        latter: the one that changed.
        all_runs: searched for runs that differ from these two only in the seed.
    """
    lines = _changes(former, latter)
    if former.group != latter.group:
        said = [*lines, "the data or the noise differ, so the PSNRs cannot be compared"]
        one, other = former.quality.gain, latter.quality.gain
        change = other - one
        if math.isnan(change):
            return said
        return [*said, f"gain over the clipped input: {one:+.2f} -> {other:+.2f} dB ({change:+.2f})"]
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
