"""How test scores become the few metrics of a run, and are read back. All of them are in the artifact `EVALUATION`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.tracking.names import noise_metric, test_metric

Summary = Mapping[str, Mapping[str, float]]
"""The mean of every metric over the test images, `{denoiser: {metric: mean}}`; `denoised` is the model's output."""

QUALITIES = "psnr", "psnr_estimated", "psnr_at_least", "sigma"  # one of these is known, and tells how good a model is
_GAIN = "psnr_gain"
_DETAILS = {"mse", "psnr_pooled"}  # not worth a metric of their own
# What a judgement needs of others than the output.
_OTHERS = {
    "clipped": ("psnr_estimated", "psnr_at_least", "mse_estimated", "sigma"),
    "noisy": ("noise", "contrast"),
}


def at_training_noise(summary: Summary) -> dict[str, float]:
    """Metrics of the scores with the noise that a run was trained for, which sort runs of any noise."""
    return {test_metric(name): value for name, value in few(summary).items()}


def by_noise(results: Mapping[str, Summary], wanted: Sequence[str] = QUALITIES) -> dict[str, float]:
    """Metrics of the output with every noise: those called `wanted`; `results` are by the label of the noise."""
    return {
        noise_metric(name, label): of["denoised"][name]
        for label, of in results.items()
        for name in wanted
        if name in of["denoised"]
    }


def few(summary: Summary) -> dict[str, float]:
    """The scores at one noise that are worth a metric, by name."""
    output, clipped = summary["denoised"], summary.get("clipped", {})
    found = {name: value for name, value in output.items() if name not in _DETAILS}
    if "psnr" in output and "psnr" in clipped:
        found[_GAIN] = output["psnr"] - clipped["psnr"]
    for denoiser, wanted in _OTHERS.items():
        of = summary.get(denoiser, {})
        found |= {f"{name}_{denoiser}": of[name] for name in wanted if name in of}
    return found


def read(metrics: Mapping[str, float], label: str) -> dict[str, dict[str, float]]:
    """The scores of a run with the noise that it was trained for, of that label, as far as its metrics tell.

    Runs of former versions have them by the label, and more of them.
    """
    prefix, suffix = test_metric(""), f"/{label}"
    own = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
    former = {name.removesuffix(suffix): value for name, value in own.items() if name.endswith(suffix)}
    scores: dict[str, dict[str, float]] = {"denoised": {}, "noisy": {}, "clipped": {}}
    for name, value in (former | {name: value for name, value in own.items() if "/" not in name}).items():
        metric, _, denoiser = name.rpartition("_")
        if denoiser not in scores or not metric:
            metric, denoiser = name, "denoised"
        scores[denoiser][metric] = value
    output = scores["denoised"]
    if _GAIN in output:
        scores["clipped"]["psnr"] = output["psnr"] - output.pop(_GAIN)
    return scores
