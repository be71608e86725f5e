"""The plots of a comparison: what they say, how far their axes reach, and that a page can hold them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.figure import Figure

from pipeline.reports.comparison_figures import INPUT, learning_curves, quality_by_cost, quality_by_noise
from pipeline.scoring.quality import ESTIMATED, PSNR, Quality


def kind(psnr: float, model: str = "unet", metric: str = PSNR) -> Any:
    run = SimpleNamespace(model=model, psnr=psnr, quality=Quality(metric, psnr, 20.0, ""))
    return SimpleNamespace(best=run, runs=[run], psnr=psnr, deviation=lambda of: 0.0)


def by_cost(*kinds: Any) -> Figure:
    return quality_by_cost(kinds, kinds[:1], lambda kind: 1000.0, "parameters")


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize(("metric", "said"), [(PSNR, "PSNR in dB"), (ESTIMATED, "estimated PSNR in dB")])
def test_quality_that_is_an_estimate_is_called_one(metric: str, said: str) -> None:
    assert by_cost(kind(30.0, metric=metric)).axes[0].get_ylabel().startswith(said)


def test_small_differences_look_small() -> None:
    axes = by_cost(kind(30.0), kind(30.0003, "resunet")).axes[0]
    assert axes.get_ylim()[0] < 20 < 30 < axes.get_ylim()[1]  # from the input on
    low, high = axes.get_xlim()
    assert high / low == pytest.approx(10)
    low, high = learning_curves({"a": [(10, 6.3829), (20, 6.3832)]}, "PSNR").axes[0].get_ylim()
    assert high - low == pytest.approx(1)


def test_every_figure_of_quality_has_the_input_and_a_legend_beside_it() -> None:
    curve = {0.0: 100.0, 0.001: 35.0, 0.3: 12.0}
    of_noise = quality_by_noise({"unet": curve}, {0.0: 100.0, 0.001: 32.6, 0.3: 9.5}, "PSNR in dB")
    for figure in (of_noise, by_cost(kind(30.0), kind(29.0, "_resunet"))):
        assert legend(figure)[0] == INPUT
        assert figure.axes[0].get_legend() is None
    assert "resunet" in "".join(legend(by_cost(kind(29.0, "_resunet"))))


def test_steps_of_noise_have_their_true_widths() -> None:
    axes = quality_by_noise({"unet": {0.001: 1.0, 0.01: 2.0, 0.3: 3.0}}, {0.001: 1.0}, "SSIM").axes[0]
    places = [axes.transData.transform((level, 1.0))[0] for level in (0.001, 0.01, 0.1)]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1])
