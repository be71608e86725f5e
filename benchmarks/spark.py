"""How fast Spark denoises all of MNIST, against onnxruntime alone. Prints a Markdown table.

    python benchmarks/spark.py

Needs `pip install -e '.[spark]'` and Java. Takes about eight minutes on two cores. All sides run in turn; absolute
times on a shared machine mean little.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.denoising.model import open_model

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT / "deploy" / "spark"))
from denoise import denoise_collection

RELEASED = PROJECT / "artifacts" / "mnist-blind"
BATCH, ROUNDS = 256, 3


def main() -> None:
    images = np.concatenate(BundledMNIST().images())
    spark = SparkSession.builder.master("local[2]").config("spark.ui.showConsoleProgress", "false").getOrCreate()
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "digits.parquet", Path(scratch) / "denoised.parquet"
        _write(images, source)

        def on_spark() -> np.ndarray:
            shutil.rmtree(target, ignore_errors=True)
            denoise_collection(spark, str(RELEASED), str(source), str(target))
            rows = pq.read_table(target, columns=["pixels"])["pixels"].to_pylist()
            return np.frombuffer(b"".join(rows), np.uint8).reshape(images.shape)

        sides: dict[str, Callable[[], np.ndarray]] = {
            "onnxruntime, 1 thread": lambda: _alone(images, 1),
            "onnxruntime, 2 threads": lambda: _alone(images, 2),
            "Spark, `local[2]`, Parquet to Parquet": on_spark,
        }
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        results = {}
        for number in range(ROUNDS + 1):
            for name, side in sides.items():
                start = time.perf_counter()
                results[name] = side()
                if number:  # the first one starts the workers
                    seconds[name].append(time.perf_counter() - start)
    first, *others = results.values()
    print(f"\n{len(images):,} digits, {RELEASED.name}; all three equal: {all((first == it).all() for it in others)}\n")
    print("| | seconds (smallest to largest) | images/s |\n|---|---:|---:|")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"| {name} | {median:.1f} ({min(times):.1f} to {max(times):.1f}) | {len(images) / median:,.0f} |")


def _write(images: np.ndarray, path: Path) -> None:
    count = len(images)
    table = {"key": range(count), **{name: [28] * count for name in ("height", "width")}, "channels": [1] * count}
    pixels = [image.tobytes() for image in images]
    pq.write_table(pa.table({**table, "pixels": pixels}), path, row_group_size=count // 10)


def _alone(images: np.ndarray, threads: int) -> np.ndarray:
    """In memory, in this process."""
    model = open_model(RELEASED / "model.onnx", threads)
    parts = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    denoised = (model.run(part.astype(np.float32) / np.float32(255)) for part in parts)
    return np.concatenate([np.rint(part.clip(0, 1) * np.float32(255)).astype(np.uint8) for part in denoised])


if __name__ == "__main__":
    main()
