"""The view of the trainings that `ui` opens."""

from __future__ import annotations

import json

from pipeline.tracking import names, views

METRICS = (
    *(names.test_metric("psnr"), names.noise_metric("psnr", "0.01"), names.VALIDATION_PSNR, names.BEST_PSNR),
    *(names.TRAIN_SECONDS, names.MAX_ABS_DIFFERENCE, names.MILLISECONDS),
)


def test_the_charts_begin_with_the_results_and_every_metric_has_a_part() -> None:
    parts = json.loads(views.trainings())["compareRunSections"]
    assert [part["name"] for part in parts if part["display"]] == ["test", "validation"]
    assert {metric.rpartition("/")[0] for metric in METRICS} == {part["name"] for part in parts}
    assert len({part["uuid"] for part in parts}) == len(parts)


def test_what_a_failed_run_says_is_a_column() -> None:
    assert json.loads(views.trainings())["selectedColumns"][-1] == f"tags.`{names.ERROR}`"
