"""What runs on the workers of Spark: the model, on rows of a table that hold one image each.

MLflow's `spark_udf` ships this module to every worker, with the modules of the pipeline that read, denoise and write
images. A worker needs NumPy, onnxruntime, Pillow, tifffile and MLflow, but no torch.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.image_files import Picture, read_picture
from pipeline.denoising.model import batches, open_model
from pipeline.errors import PipelineError, counted

_TYPES: dict[int, type] = {1: np.uint8, 2: np.uint16, 4: np.float32}  # by bytes per value


class RowModel:
    """The model in the .onnx file `path`, for `spark_udf`."""

    def __init__(self, path: str) -> None:
        self._model = open_model(Path(path), threads=1, is_tried=True)  # Spark runs a worker on every core

    def predict(self, rows: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Denoise the images in `rows` and return them in the same form.

        Args:
            rows: with the columns `content`, the bytes of image files, and `path`, their names; or with `pixels`, the
                bytes of images [height, width, channels], and these three as columns. Pixels are uint8, uint16 or
                float32 on the [0, 1] scale, little-endian; the number of bytes says which.
            params: not used; MLflow passes it.

        Returns:
            The columns `image`, the denoised bytes in base64, because `spark_udf` can return text but not bytes, and
            `error`, why there is no image; "" where there is one.
        """
        records = rows.to_dict("records")
        images, errors = [""] * len(records), [""] * len(records)
        with tempfile.TemporaryDirectory() as folder:

            def pictures() -> Iterator[tuple[int, Picture]]:
                for index, row in enumerate(records):
                    try:
                        picture = _read_file(row, folder) if "content" in row else _read_pixels(row)
                        self._model.check(picture)
                    except PipelineError as error:
                        errors[index] = " ".join(str(error).split())
                    else:
                        yield index, picture

            for batch in batches(pictures()):
                denoised = self._model.denoise_pictures([picture for _, picture in batch])
                for (index, picture), pixels in zip(batch, denoised, strict=True):
                    try:
                        data = picture.encode(pixels)
                    except OSError as error:
                        errors[index] = f"it cannot be written: {error}"
                    else:
                        images[index] = base64.b64encode(data).decode()
        return pd.DataFrame({"image": images, "error": errors})


def _read_file(row: Mapping[str, Any], folder: str) -> Picture:
    if not isinstance(row["content"], bytes):
        raise PipelineError("it has no content")
    path = Path(folder) / "image"
    path.write_bytes(row["content"])
    return read_picture(path)


def _read_pixels(row: Mapping[str, Any]) -> Picture:
    data, sides = row["pixels"], [row[name] for name in ("height", "width", "channels")]
    if not isinstance(data, bytes) or not all(isinstance(side, int | float) and side >= 1 for side in sides):
        raise PipelineError(f"it has no pixels or no size: {sides}")  # a missing number is NaN
    height, width, channels = map(int, sides)
    values = height * width * channels
    dtype = _TYPES.get(len(data) // values)
    if dtype is None or len(data) % values or channels not in (1, 3):
        raise PipelineError(
            f"it has {len(data)} bytes, which do not fit {height}x{width} pixels of {counted(channels, 'channel')}; "
            "allowed are 1 or 3 channels, and 1, 2 or 4 bytes per value"
        )
    array: np.ndarray = np.frombuffer(data, dtype).reshape(height, width, channels)
    return Picture(np.ascontiguousarray(array.transpose(2, 0, 1))[np.newaxis], None, "RAW", _raw)


def _raw(pixels: np.ndarray) -> bytes:
    return pixels[0].transpose(1, 2, 0).tobytes()


def _load_pyfunc(path: str) -> RowModel:
    return RowModel(path)
