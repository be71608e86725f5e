"""What is read of a run in a shared store is what `evaluate` wrote, or the error says in one line that it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.stages.inputs import read_evaluation

SCORES = {name: {"psnr": 30.0} for name in ("denoised", "clipped", "noisy")}


def report(**changes: Any) -> dict[str, Any]:
    return {"results": {"0.01": SCORES}, "other_data": {}, **changes}


def test_what_evaluate_writes_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "test.json"
    path.write_text(json.dumps(report()))
    assert read_evaluation(path, "RUN", "0.01") == report()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "'results' is missing"),
        (report(results=[]), "list indices must be integers"),
        (report(results={"0.1": SCORES}), "'0.01' is missing"),
        (report(results={"0.01": {"noisy": {"psnr": 30}}}), "'denoised' is missing"),
        (report(results={"0.01": {"denoised": {"sigma": 1}}}), "'sigma' is missing"),
        (report(results={"0.01": {"denoised": {"psnr": "30"}}}), "must be real number, not str"),
        (report(results={"0.01": {"denoised": 30}}), "'int' object has no attribute 'values'"),
        (report(other_data=[]), "'list' object has no attribute 'items'"),
        (report(curve={"images": 3}), "'variances' is missing"),
    ],
)
def test_anything_else_is_an_error_of_one_line(tmp_path: Path, content: Any, reason: str) -> None:
    path = tmp_path / "test.json"
    path.write_text(json.dumps(content))
    with pytest.raises(PipelineError) as caught:
        read_evaluation(path, "RUN", "0.01")
    assert str(caught.value).startswith("test.json of run RUN is not what evaluate writes: ")
    assert reason in str(caught.value)
    assert "evaluate --run-id RUN --force" in str(caught.value)
