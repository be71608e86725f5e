"""What the UI shows of an experiment at first: the trainings, with what one compares them by as columns."""

from __future__ import annotations

import json

from pipeline.tracking import names

# MLflow keeps a view that somebody shares in a tag like this, and reads it where the address of a page names the key.
TAG = f"mlflow.sharedViewState.{names.TRAININGS_VIEW}"

_COLUMNS = {
    "attributes": ("Created",),
    "metrics": (names.test_metric("psnr"), names.test_metric("psnr_gain")),
    "tags": (names.MODEL, names.VARIANCE, names.NOISE, names.DATASET, names.QUALITY),
}


def trainings() -> str:
    """The value of the tag: all runs that were given a model and a noise, finished or not, the newest first."""
    return json.dumps(
        {
            "searchFilter": f"tags.{names.NOISE} != ''",  # comparisons, sweeps and classical denoisers have none
            "orderByKey": "attributes.`start_time`",
            "orderByAsc": False,
            "selectedColumns": [f"{kind}.`{name}`" for kind, columns in _COLUMNS.items() for name in columns],
        }
    )
