"""Denoise a large collection of images on Spark, with an exported model and MLflow's `spark_udf`.

spark-submit deploy/spark/denoise.py --model models:/denoiser@champion --input digits.parquet --output denoised.parquet
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

import click
import mlflow.pyfunc
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

import pipeline
from pipeline.data.image_files import SUFFIXES
from pipeline.denoising.model import located_model
from pipeline.denoising.trial import check_model
from pipeline.errors import PipelineError

# The columns that a collection may have: first a key, last an image.
FILES, PIXELS = ("path", "content"), ("key", "height", "width", "channels", "pixels")
_PACKAGE = Path(pipeline.__file__).parent
_WORKERS_NEED = [  # modules of the pipeline
    path.relative_to(_PACKAGE)
    for pattern in (
        *(
            "__init__.py",
            "config.py",
            "errors.py",
            "files.py",
            "spec.py",
            "text.py",
            "models/__init__.py",
            "noise/*.py",
        ),
        *("data/__init__.py", "data/image*.py", "data/levels.py", "data/filling.py", "data/formats/*.py"),
        "denoising/*.py",
    )
    for path in sorted(_PACKAGE.glob(pattern))
]


def denoise_collection(spark: SparkSession, model: str, source: str, output: str) -> tuple[DataFrame, DataFrame]:
    """Write a denoised copy of the collection `source` to the Parquet table `output`, in the order of its keys.

    Args:
        spark: the session to run in.
        model: a hand-off folder, its .onnx file, or an MLflow model URI.
        source: a Parquet table whose name ends in .parquet, with the columns `FILES` or `PIXELS`; or a folder of
            image files. `denoise_rows` says what these columns hold. Other columns are kept.
        output: the same columns, and `error`: why there is no denoised image; null where there is one.

    Returns:
        Everything that was written, and the keys and errors of the images that could not be denoised.

    Raises:
        PipelineError: the model cannot be used, or there are no images.
        PySparkException, Py4JJavaError: the input cannot be read, or the output cannot be written.
    """
    with tempfile.TemporaryDirectory() as scratch, located_model(model) as file:
        check_model(file)  # here, and not by every worker
        images = _read(spark, source)
        columns = FILES if FILES[-1] in images.columns else PIXELS
        key, image = columns[0], columns[-1]
        denoise = mlflow.pyfunc.spark_udf(
            spark, _row_model(file, Path(scratch)), result_type="image string, error string", env_manager="local"
        )
        # Enough parts that all cores have work, however small the table is.
        parts = max(images.rdd.getNumPartitions(), 2 * spark.sparkContext.defaultParallelism)
        images = images.repartitionByRange(parts, key).sortWithinPartitions(key)
        images = images.withColumn("_denoised", denoise(F.struct(*columns)))
        images = images.withColumns(
            {
                image: F.when(F.col("_denoised.error") == "", F.unbase64("_denoised.image")),
                "error": F.nullif(F.col("_denoised.error"), F.lit("")),
            }
        )
        images.drop("_denoised").write.parquet(output)
    done = spark.read.parquet(output)
    return done, done.where("error IS NOT NULL").select(key, "error").orderBy(key)


def _read(spark: SparkSession, source: str) -> DataFrame:
    """The images, with all columns of their table."""
    if source.rstrip("/").endswith(".parquet"):
        images = spark.read.parquet(source)
        types = dict(images.dtypes)
        for columns in (FILES, PIXELS):
            if set(columns) <= set(types) and types[columns[-1]] == "binary":
                break
        else:
            found = ", ".join(f"{name} {kind}" for name, kind in types.items())
            raise PipelineError(
                f"{source} has the columns {found}; it needs {', '.join(FILES)} or {', '.join(PIXELS)}, "
                "the last of them binary"
            )
    else:
        names = ",".join((*SUFFIXES, *map(str.upper, SUFFIXES)))
        files = spark.read.format("binaryFile").options(recursiveFileLookup=True, pathGlobFilter=f"*{{{names}}}")
        images = files.load(source).select(*FILES)
    if images.select(images.columns[:1]).isEmpty():
        raise PipelineError(f"no images in {source}")
    return images


def _row_model(file: Path, folder: Path) -> str:
    """The ONNX file as a model of table rows: `spark_udf` cannot take tensors of any height and width."""
    modules = folder / "pipeline"
    for name in _WORKERS_NEED:
        (modules / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_PACKAGE / name, modules / name)
    mlflow.pyfunc.save_model(
        folder / "model",
        loader_module="denoise_rows",
        data_path=str(file),
        code_paths=[str(Path(__file__).with_name("denoise_rows.py")), str(modules)],
        pip_requirements=["mlflow", "numpy", "onnxruntime", "pillow", "tifffile"],
    )
    return str(folder / "model")


@click.command()
@click.option("--model", required=True, help="A hand-off folder, or an MLflow model: models:/NAME@champion.")
@click.option("--input", "source", required=True, help="A Parquet table, NAME.parquet, or a folder of image files.")
@click.option("--output", required=True, help="The Parquet table to write.")
def main(model: str, source: str, output: str) -> None:
    """Denoise a large collection of images on Spark."""
    try:
        spark = SparkSession.builder.appName("denoise").getOrCreate()
        start = time.perf_counter()
        done, failed = denoise_collection(spark, model, source, output)
        seconds = time.perf_counter() - start
        total, skipped = done.count(), failed.count()
        for key, error in failed.take(10):
            click.echo(f"skipped {key}: {error}", err=True)
        click.echo(
            f"denoise: {total - skipped:,} of {total:,} images in {seconds:.1f} s "
            f"({total / seconds:,.0f} images/s), in {output}"
        )
        if skipped:
            raise PipelineError(f"{skipped:,} of {total:,} images were skipped; the column `error` says why")
    except (PipelineError, PySparkException, Py4JJavaError) as error:
        message = str(error.java_exception if isinstance(error, Py4JJavaError) else error)
        click.echo(f"Error: {message.strip().splitlines()[0]}", err=True)
        sys.exit(getattr(error, "exit_code", 1))


if __name__ == "__main__":
    main()
