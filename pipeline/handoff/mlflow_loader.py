"""How MLflow serves the ONNX file: as its ONNX flavor does, except that a file that holds what models must not is not
opened, and input that is not a noisy image is an error.

The server's log warns of images that do not look like what the model was trained on.

MLflow keeps a copy of this module with every model, and one of the package `verification` beside it, so it imports
nothing from the pipeline.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import mlflow.onnx
import numpy as np
import onnxruntime
from mlflow.exceptions import MlflowException

_VERIFICATION = "denoiser_verification"  # what the package is called here: others may have one of its name
_LOGGER = logging.getLogger("mlflow.denoiser")  # below MLflow's own, which `mlflow models serve` shows


def _verification() -> Any:
    """The module `graph` of the package `verification`, which lies beside this one, or a folder above it."""
    if _VERIFICATION not in sys.modules:
        here = Path(__file__).parent
        folder = next(place / "verification" for place in (here, here.parent) if (place / "verification").is_dir())
        spec = spec_from_file_location(_VERIFICATION, folder / "__init__.py", submodule_search_locations=[str(folder)])
        assert spec is not None
        assert spec.loader is not None
        sys.modules[_VERIFICATION] = package = module_from_spec(spec)
        spec.loader.exec_module(package)
    return import_module(f"{_VERIFICATION}.graph")


class GuardedModel:
    """The ONNX model at `path`, a file or a folder with `model.onnx`."""

    def __init__(self, path: str) -> None:
        """Open it.

        Raises:
            MlflowException: it holds what models must not.
        """
        file = Path(path) / "model.onnx" if Path(path).is_dir() else Path(path)
        for gate in _verification().check_safe(file):
            if not gate.passed:
                raise MlflowException.invalid_parameter_value(
                    f"{file} cannot be opened: {gate.gate}: {gate.value}; allowed: {gate.limit}"
                )
        self._model = mlflow.onnx._load_pyfunc(path)
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        facts = session.get_modelmeta().custom_metadata_map
        self._low, self._high = (float(part) for part in facts["accepted_range"].split())
        # Without it, of a model that is trained on noise with grain, nothing is judged.
        self._limits = [float(part) for part in facts.get("removed_correlation", "inf inf").split()]
        levels = facts.get("black", "0"), facts.get("white", "255")
        self._hint = "divide 8-bit pixels by 255"
        if levels != ("0", "255"):
            self._hint = f"scale pixels so that {levels[0]} becomes 0 and {levels[1]} becomes 1"

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Denoise `{"noisy": float32 [N, C, H, W]}`, or the array itself, and return `{"denoised": ...}`.

        Raises:
            MlflowException: the images are empty, hold NaN or infinity, or exceed the range of noisy images, as
                integers from 0 to 255 do. Over HTTP this is status 400.
        """
        images = np.asarray(next(iter(data.values())) if isinstance(data, dict) else data)
        if images.size == 0:
            raise MlflowException.invalid_parameter_value(f"empty input: its shape is {list(images.shape)}")
        if not np.isfinite(images).all():
            raise MlflowException.invalid_parameter_value("the input holds NaN or infinity")
        low, high = float(images.min()), float(images.max())
        if low < self._low or high > self._high:
            raise MlflowException.invalid_parameter_value(
                f"the input ranges from {low:g} to {high:g}, but noisy images on the [0, 1] scale stay within "
                f"{self._low:g} to {self._high:g}; {self._hint}"
            )
        result = self._model.predict(data, params)
        denoised = np.asarray(next(iter(result.values())) if isinstance(result, dict) else result)
        for number in self._strange(images, denoised):
            _LOGGER.warning(
                "image %d of %d does not look like what this model was trained on, and may be spoiled",
                number + 1,
                len(images),
            )
        return result

    def _strange(self, noisy: np.ndarray, denoised: np.ndarray) -> np.ndarray:
        """The numbers of such images, by what was removed; the formula is explained in the pipeline's module
        `denoising/familiarity.py`."""
        removed = np.float64(noisy) - denoised
        power = np.square(removed).mean(axis=(1, 2, 3))
        right, below = removed[..., 1:] * removed[..., :-1], removed[..., 1:, :] * removed[..., :-1, :]
        pairs = right[0].size + below[0].size
        products = right.sum(axis=(1, 2, 3)) + below.sum(axis=(1, 2, 3))
        is_clipped = (noisy.min(axis=(1, 2, 3)) >= 0) & (noisy.max(axis=(1, 2, 3)) <= 1)
        limits = np.where(is_clipped, self._limits[1], self._limits[0])
        least = max(pairs, 1) * np.maximum(power, 1 / 255**2)
        return np.flatnonzero((power > 1 / 255**2) & (products / least - 3 / max(pairs, 1) ** 0.5 > limits))


def _load_pyfunc(path: str) -> GuardedModel:
    return GuardedModel(path)
