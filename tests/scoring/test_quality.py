"""What is said of a model that is not better than doing nothing, or not as good as was asked for."""

from __future__ import annotations

import math

import pytest

from pipeline.scoring.quality import Quality, Wanted


def psnr(output: float, clipped: float) -> Quality:
    return Quality.of({"clipped": {"psnr": clipped}, "denoised": {"psnr": output}})


def test_an_output_must_be_better_than_the_clipped_input() -> None:
    assert psnr(30, 22.5).fault == psnr(30, 22.5).verdict == ""
    assert psnr(30, 22.5).gain == 7.5
    for output in (22.5, 12, math.nan):
        assert not psnr(output, 22.5).is_better
    assert psnr(12.2, 22.5).verdict == (
        "The output is no better than the clipped input: PSNR 12.20 dB, clipped input 22.50 dB."
    )


def test_runs_of_early_versions_do_not_know_their_clipped_input() -> None:
    found = Quality.of({"denoised": {"psnr": 30.0}})
    assert found.is_better
    assert found.text == "PSNR 30.00 dB, clipped input not known"


@pytest.mark.parametrize(
    ("gain", "wanted", "said"),
    [
        (0, 0, ""),
        (7.5, 30, ""),
        (7.6, 0, "--min-gain 7.6: the gain is 7.50 dB"),
        (0, 31, "--min-psnr 31: the PSNR is 30.00 dB"),
        (9, 31, "--min-gain 9: the gain is 7.50 dB; --min-psnr 31: the PSNR is 30.00 dB"),
    ],
)
def test_what_is_short_of_what_was_asked_for(gain: float, wanted: float, said: str) -> None:
    assert psnr(30, 22.5).refusal(Wanted(min_gain=gain, min_psnr=wanted)) == said


def test_what_is_worse_is_refused_unless_that_is_allowed() -> None:
    worse = psnr(12, 22.5)
    assert worse.refusal(Wanted()) == worse.verdict.rstrip(".")
    assert worse.refusal(Wanted(allow_worse=True)) == ""
    assert "--min-psnr 20: the PSNR is 12.00 dB" in worse.refusal(Wanted(allow_worse=True, min_psnr=20))


def test_levels_have_no_psnr_to_ask_for() -> None:
    values = {"sigma": 0.1, "contrast": 0.3, "noise": 0.1}
    output = {"sigma": 0.01, "contrast": 0.28, "removed": 0.1, "whiteness": 0.01}
    found = Quality.of({"noisy": values, "clipped": values, "denoised": output})
    assert found.is_better
    assert found.refusal(Wanted()) == ""
    assert "there is no PSNR" in found.refusal(Wanted(min_gain=1))
    assert "dB" not in found.text
