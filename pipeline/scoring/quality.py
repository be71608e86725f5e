"""How good a model is, against doing nothing: the one judgement that every command makes by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

PSNR, ESTIMATED, LEVEL = "psnr", "psnr_estimated", "sigma"
NAMES = {PSNR: "PSNR", ESTIMATED: "estimated PSNR", LEVEL: "noise level"}
_MOST_REMOVED = 2.0  # times the noise: more than that cannot have been noise
_LEAST_CONTRAST = 0.5  # of the images without their noise, that an output must have
_CONTRAST_COUNTS = 0.25  # times the noise: an image with less contrast may well be empty


@dataclass(frozen=True)
class Wanted:
    """What a model must be, to be handed off."""

    allow_worse: bool = False  # than doing nothing
    min_gain: float = 0.0  # over the clipped input, in dB; 0 asks for nothing
    min_psnr: float = 0.0  # in dB; 0 asks for nothing


@dataclass(frozen=True)
class Quality:
    """The quality of the output of a model, and of its input clipped to [0, 1], which is what doing nothing gives."""

    metric: str  # PSNR, ESTIMATED (both in dB, more is better), or LEVEL (of noise on the [0, 1] scale)
    output: float
    input: float
    fault: str  # why doing nothing is as good or better; "" where the model is better
    note: str = ""  # how sure an estimate is

    @classmethod
    def of(cls, summary: Mapping[str, Mapping[str, float]]) -> Quality:
        """From the scores at the noise that a model was trained for, `{denoiser: {metric: mean}}`."""
        output, clipped = summary["denoised"], summary.get("clipped", {})
        if LEVEL in output:
            return cls(LEVEL, output[LEVEL], clipped[LEVEL], _fault_of_levels(summary))
        # The estimated error is known even where chance made it negative, so that it has no PSNR.
        estimated = "mse_estimated" in output
        ours, theirs = (_estimated(of) if estimated else of.get(PSNR, math.nan) for of in (output, clipped))
        found = cls(ESTIMATED if estimated else PSNR, ours, theirs, "", _note(output) if estimated else "")
        if estimated and ours - theirs < output.get("psnr_standard_error", 0):
            found = replace(found, note=f"{found.note}, more than the gain: it may be chance")
        better = output["mse_estimated"] < clipped["mse_estimated"] if estimated else ours > theirs
        known = estimated or not math.isnan(theirs)
        return replace(found, fault=found.figures) if known and not better else found

    @property
    def is_better(self) -> bool:
        """Whether the output is better than the clipped input."""
        return not self.fault

    @property
    def gain(self) -> float:
        """In dB, of the output over the clipped input; NaN where there is no PSNR."""
        return math.nan if self.metric == LEVEL else self.output - self.input

    @property
    def text(self) -> str:
        """The quality in words, without the judgement."""
        return self.figures + (f" ({self.note})" if self.note else "")

    @property
    def verdict(self) -> str:
        """A sentence about a model that is not better than doing nothing; "" about others."""
        return f"The output is no better than the clipped input: {self.fault}." if self.fault else ""

    @property
    def figures(self) -> str:
        """Output and input."""
        if self.metric == LEVEL:
            return f"noise level {self.output:.4f}, before {self.input:.4f}"
        return f"{NAMES[self.metric]} {_db(self.output)}, clipped input {_db(self.input)}"

    def refusal(self, wanted: Wanted) -> str:
        """Why a model is not handed off; "" if it is."""
        if self.fault and not wanted.allow_worse:
            return self.verdict.rstrip(".")
        asked = {
            f"--min-gain {wanted.min_gain:g}": (wanted.min_gain, self.gain, "gain"),
            f"--min-psnr {wanted.min_psnr:g}": (wanted.min_psnr, self.output, NAMES[self.metric]),
        }
        short = []
        for option, (least, found, what) in asked.items():
            if least and self.metric == LEVEL:
                short.append(f"{option}: there is no PSNR without clean images or second captures")
            elif least and not found >= least:
                short.append(f"{option}: the {what} is {_db(found)}")
        return "; ".join(short)


def _db(value: float) -> str:
    return "not known" if math.isnan(value) else f"{value:.2f} dB"


def _estimated(values: Mapping[str, float]) -> float:
    """The estimated PSNR, or else the bound below it."""
    return values.get(ESTIMATED, values.get("psnr_at_least", math.nan))


def _note(output: Mapping[str, float]) -> str:
    if ESTIMATED not in output:
        return "the error is too small to be estimated: that is a lower bound"
    if "psnr_standard_error" not in output:
        return "from a single scene, so its standard error is not known"
    return f"standard error {output['psnr_standard_error']:.2f} dB"


def _fault_of_levels(summary: Mapping[str, Mapping[str, float]]) -> str:
    """Why an output without a PSNR cannot be good: the noise is still there, or the image is not."""
    noisy, clipped, output = (summary[name] for name in ("noisy", "clipped", "denoised"))
    if output["sigma"] >= clipped["sigma"]:
        return f"the noise level did not go down: {clipped['sigma']:.4f} before, {output['sigma']:.4f} after"
    if output["removed"] > _MOST_REMOVED * noisy["noise"]:
        return (
            f"what was removed ({output['removed']:.4f}) is more than twice the estimated noise "
            f"({noisy['noise']:.4f}): image content was removed"
        )
    contrast = math.sqrt(max(0.0, noisy["contrast"] ** 2 - noisy["noise"] ** 2))
    if contrast > _CONTRAST_COUNTS * noisy["noise"] and output["contrast"] < _LEAST_CONTRAST * contrast:
        return (
            f"the output has a contrast of {output['contrast']:.4f}, the images without their noise one of "
            f"{contrast:.4f}: image content was removed"
        )
    return ""
