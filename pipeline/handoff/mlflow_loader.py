"""How MLflow serves the file: as its ONNX flavor does, but what is no noisy image gets an error, not an answer.

MLflow keeps a copy of this module with every model, so it imports nothing of the pipeline.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow.onnx
import numpy as np
import onnxruntime
from mlflow.exceptions import MlflowException


class GuardedModel:
    """The model in the file at `path`."""

    def __init__(self, path: str) -> None:
        self._model = mlflow.onnx._load_pyfunc(path)
        file = Path(path) / "model.onnx" if Path(path).is_dir() else Path(path)
        facts = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).get_modelmeta()
        self._low, self._high = (float(part) for part in facts.custom_metadata_map["accepted_range"].split())

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Denoise `{"noisy": float32 [N, C, H, W]}`, or the array itself; the answer is `{"denoised": ...}`.

        Raises:
            MlflowException: the images are empty, hold NaN or infinity, or leave the range of noisy images, as
                integers from 0 to 255 do. Its status in HTTP is 400.
        """
        images = np.asarray(next(iter(data.values())) if isinstance(data, dict) else data)
        if images.size == 0:
            raise MlflowException.invalid_parameter_value(f"empty input: its shape is {list(images.shape)}")
        if not np.isfinite(images).all():
            raise MlflowException.invalid_parameter_value("the input holds NaN or infinity")
        low, high = float(images.min()), float(images.max())
        if low < self._low or high > self._high:
            raise MlflowException.invalid_parameter_value(
                f"the input goes from {low:g} to {high:g}, but noisy images on the [0, 1] scale do not leave "
                f"{self._low:g} to {self._high:g}; divide 8-bit pixels by 255"
            )
        return self._model.predict(data, params)


def _load_pyfunc(path: str) -> GuardedModel:
    return GuardedModel(path)
