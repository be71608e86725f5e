"""What the UI shows of an experiment at first: the trainings, with what one compares them by as columns."""

from __future__ import annotations

import json

from pipeline.tracking import names

# MLflow keeps a view that somebody shares in a tag like this, and reads it where the address of a page names the key.
TAG = f"mlflow.sharedViewState.{names.TRAININGS_VIEW}"

_COLUMNS = {
    "attributes": ("Created",),
    "metrics": (names.test_metric("psnr"), names.test_metric("psnr_gain")),
    "tags": (names.MODEL, names.VARIANCE, names.SEED, names.DATASET, names.NOISE, names.QUALITY, names.ERROR),
}

# The parts of the page of charts, which MLflow would order by name, with what one does not compare runs by at the top.
_OPEN = names.test_metric("psnr").partition("/")[0], names.VALIDATION
_CLOSED = names.test_metric("psnr"), names.TRAIN, names.BEST, "parity", "onnxruntime"


def trainings() -> str:
    """The value of the tag: all runs that were given a model and a noise, finished or not, the newest first."""
    return json.dumps(
        {
            "searchFilter": f"tags.{names.NOISE} != ''",  # comparisons, sweeps and classical denoisers have none
            "orderByKey": "attributes.`start_time`",
            "orderByAsc": False,
            "selectedColumns": [f"{kind}.`{name}`" for kind, columns in _COLUMNS.items() for name in columns],
            "compareRunSections": [
                {"uuid": name, "name": name, "display": name in _OPEN, "isReordered": True}
                for name in (*_OPEN, *_CLOSED)
            ],
            "compareRunCharts": [],  # MLflow adds one for each metric to the part of its name
            "isAccordionReordered": True,
        }
    )
