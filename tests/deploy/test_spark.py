"""The batch command on a real Spark of two workers, with the model of a real run."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import PROJECT, Cli, Result, Trained, environment, write_digits
from PIL import Image

from pipeline.data.sources.bundled_mnist import BundledMNIST

pytest.importorskip("pyspark", reason="not run: pyspark is not installed")
pytestmark = pytest.mark.skipif(shutil.which("java") is None, reason="not run: no Java")

COMMAND = PROJECT / "deploy" / "spark" / "denoise.py"


def submit(cwd: Path, *arguments: object) -> Result:
    """`spark-submit` the command, where nothing can import torch. What it says on stderr comes on stdout, too."""
    (cwd / "no" / "torch").mkdir(parents=True)
    (cwd / "no" / "torch" / "__init__.py").write_text("raise ImportError('no torch')")
    python = Path(sys.executable)
    done = subprocess.run(
        [python.with_name("spark-submit"), "--master", "local[2]", COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(PYTHONPATH=f"{cwd / 'no'}:{PROJECT}", PYSPARK_PYTHON=str(python), SPARK_LOCAL_IP="127.0.0.1"),
        capture_output=True,
        text=True,
        timeout=1800,  # to stop a hang
    )
    return Result(done.returncode, done.stdout, done.stderr)


def test_the_workers_get_every_module_that_they_need(tmp_path: Path, digits: np.ndarray) -> None:
    """Without Spark: the modules that it ships, and none other of the pipeline, denoise a table of one image."""
    spec = importlib.util.spec_from_file_location("spark_denoise", COMMAND)
    assert spec is not None
    assert spec.loader is not None
    command = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(command)
    for name in command._WORKERS_NEED:
        (tmp_path / "pipeline" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / "pipeline" / name, tmp_path / "pipeline" / name)
    shutil.copy(COMMAND.with_name("denoise_rows.py"), tmp_path)
    code = (
        "import base64, sys; sys.modules.update(click=None, torch=None, onnx=None, matplotlib=None)\n"
        "import pandas, denoise_rows\n"
        "model = denoise_rows._load_pyfunc(sys.argv[1])\n"
        "row = {'key': 1, 'height': 28, 'width': 28, 'channels': 1, 'pixels': sys.stdin.buffer.read()}\n"
        "found = model.predict(pandas.DataFrame([row]))\n"
        "assert found['error'].tolist() == ['']\n"
        "sys.stdout.buffer.write(base64.b64decode(found['image'][0]))"
    )
    path = PROJECT / "artifacts" / "mnist-blind" / "model.onnx"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(tmp_path)),
        input=digits[0].tobytes(),
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr.decode()
    noisy = digits[:1, np.newaxis].astype(np.float32) / np.float32(255)
    (denoised,) = onnxruntime.InferenceSession(path).run(["denoised"], {"noisy": noisy})
    assert done.stdout == np.rint(denoised.clip(0, 1) * 255).astype(np.uint8).tobytes()


def test_all_of_mnist_is_what_onnxruntime_makes_of_it(trained: Trained, tmp_path: Path) -> None:
    """70,000 digits, bit for bit: those to train on as 8-bit pixels, those to test on with noise, as floats."""
    train, test = BundledMNIST().images()
    noise = np.random.default_rng(0).standard_normal(test.shape, np.float32) * np.float32(0.1)
    noisy = test.astype(np.float32) / np.float32(255) + noise
    count = len(train) + len(test)
    table = pa.table(
        {
            "key": [f"{number:05}" for number in range(count)],
            "height": [28] * count,
            "width": [28] * count,
            "channels": [1] * count,
            "pixels": [image.tobytes() for images in (train, noisy) for image in images],
            "number": range(count),  # no business of the command
        }
    )
    order = np.random.default_rng(1).permutation(count)
    pq.write_table(table.take(order), tmp_path / "digits.parquet", row_group_size=10_000)
    shutil.copy(trained.cwd / "mlflow.db", tmp_path)  # which leads to the model where it is

    done = submit(
        tmp_path, "--model", "models:/digits/1", "--input", "digits.parquet", "--output", tmp_path / "out.parquet"
    )
    assert done.code == 0, done
    assert "denoise: 70,000 of 70,000 images in " in done.out

    # Read file after file, as they lie.
    files = sorted((tmp_path / "out.parquet").glob("part-*"))
    assert len(files) > 1  # both workers had work
    found = pa.concat_tables(pq.read_table(file) for file in files)
    assert found.column_names == [*table.column_names, "error"]
    for name in ("key", "number"):
        assert found[name].to_pylist() == table[name].to_pylist()
    assert found["error"].null_count == count

    session = onnxruntime.InferenceSession(trained.handoff / "model.onnx")

    def denoised(images: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [session.run(None, {"noisy": images[i : i + 1000]})[0] for i in range(0, len(images), 1000)]
        )

    pixels = found["pixels"].to_pylist()
    wanted = denoised(train.astype(np.float32) / np.float32(255))
    as_pixels = np.rint(wanted * np.float32(255)).astype(np.uint8)
    assert b"".join(pixels[: len(train)]) == as_pixels.tobytes()
    assert b"".join(pixels[len(train) :]) == denoised(noisy).tobytes()


MODEL = "trained"  # stands for the hand-off folder of a real run
# What is asked of one Spark, because each takes seconds to start: (model, input, output), and what is said.
ASKED = {
    (MODEL, "in", "out.parquet"): "2 of 25 images were skipped; the column `error` says why",
    ("nothing", "rows.parquet", "out"): "give a hand-off folder, its .onnx file, or an MLflow model URI",
    ("models:/nobody@champion", "rows.parquet", "out"): "there is no tracking store",
    (MODEL, "missing.parquet", "out"): "[PATH_NOT_FOUND]",
    (MODEL, "missing", "out"): "[PATH_NOT_FOUND]",
    (MODEL, "folder", "out"): "no images in folder",
    (MODEL, "empty.parquet", "out"): "no images in empty.parquet",
    (MODEL, "broken.parquet", "out"): "broken.parquet",
    (MODEL, "columns.parquet", "out"): "has the columns key bigint, image string; it needs path, content or ",
    (MODEL, "rows.parquet", "there"): "already exists",
    (MODEL, "rows.parquet", "rows.parquet/out"): "rows.parquet",
    (MODEL, "rows.parquet", "partly"): "4 of 5 images were skipped",
}


@pytest.fixture(scope="module")
def asked(
    trained: Trained, digits: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[tuple[str, str, str], Result]]:
    """The folder of all that is read and written, and the answers to `ASKED`."""
    cwd = tmp_path_factory.mktemp("spark")
    source = write_digits(cwd / "in", digits[:20])
    (source / "deep").mkdir()
    colour = np.stack([digits[0], digits[1], digits[2], np.full_like(digits[0], 77)], axis=-1)
    Image.fromarray(colour).save(source / "deep" / "alpha.PNG")
    Image.fromarray(digits[0].astype(np.uint16) * 257).save(source / "deep" / "deep.tiff")
    np.save(source / "floats.npy", np.tile(digits[0], (20, 20)).astype(np.float32) / 255)  # large: in tiles
    (source / "notes.txt").write_text("no image")
    (source / "broken.png").write_bytes((source / "0001.png").read_bytes()[:60])
    np.save(source / "range.npy", digits[0].astype(np.float32))

    rows = {
        "key": [1, 2, 3, 4, 5],
        "height": [28, None, 28, 28, 28],
        "width": [28, 28, 28, 28, 28],
        "channels": [1, 1, 2, 1, 1],
        "pixels": [b"short", digits[0].tobytes(), digits[:2].tobytes(), None, digits[0].tobytes()],
    }
    pq.write_table(pa.table(rows), cwd / "rows.parquet")
    pq.write_table(pa.table({"key": [1], "image": ["text"]}), cwd / "columns.parquet")
    pq.write_table(pa.table(rows).slice(0, 0), cwd / "empty.parquet")
    (cwd / "broken.parquet").write_text("no table")
    (cwd / "folder").mkdir()
    (cwd / "there").mkdir()

    code = (
        "import io, json, runpy, sys\nfrom contextlib import redirect_stderr, redirect_stdout\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['-', *sum(zip(('--model', '--input', '--output'), arguments), ())]\n"
        "    with redirect_stderr(io.StringIO()) as err, redirect_stdout(io.StringIO()) as out:\n"
        f"        try: runpy.run_path({str(COMMAND)!r}, run_name='__main__')\n"
        "        except SystemExit as end: code = end.code\n"
        "    print('>', json.dumps([code, out.getvalue(), err.getvalue()]))\n"
    )
    model = {MODEL: str(trained.handoff)}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([(model.get(case[0], case[0]), *case[1:]) for case in ASKED])],
        cwd=cwd,
        env=environment(PYSPARK_PYTHON=sys.executable, SPARK_LOCAL_IP="127.0.0.1"),
        capture_output=True,
        text=True,
        timeout=1800,  # to stop a hang
    )
    assert done.returncode == 0, done
    answers = [Result(*json.loads(line[2:])) for line in done.stdout.splitlines() if line.startswith("> ")]
    return cwd, dict(zip(ASKED, answers, strict=True))


def test_a_folder_gives_the_files_that_denoise_writes(
    trained: Trained, cli: Cli, tmp_path: Path, asked: tuple[Path, dict[tuple[str, str, str], Result]]
) -> None:
    folder, answers = asked
    done = answers[MODEL, "in", "out.parquet"]
    skipped = [line for line in done.err.splitlines() if line.startswith("skipped")]
    assert [line.split(":")[0] for line in skipped] == ["skipped file", "skipped file"]
    assert "/broken.png: it cannot be read: " in skipped[0]
    assert "/range.npy: its values range from 0 to 255, " in skipped[1]
    assert "denoise: 23 of 25 images in " in done.out

    assert cli("denoise", "--model", trained.handoff, folder / "in", "--output", tmp_path / "out").code == 1
    rows = pq.read_table(folder / "out.parquet").to_pylist()
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    for row in rows:
        name = row["path"].rpartition("/in/")[2]
        if row["error"]:
            assert row["content"] is None
            assert not (tmp_path / "out" / name).exists()
        else:
            assert row["content"] == (tmp_path / "out" / name).read_bytes(), name


def test_what_cannot_be_done_is_one_line(asked: tuple[Path, dict[tuple[str, str, str], Result]]) -> None:
    folder, answers = asked
    for case, answer in answers.items():
        lines = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
        assert (answer.code, len(lines)) == (1, 1), answer
        assert ASKED[case] in lines[0], lines
        assert "Traceback" not in answer.err
    assert not (folder / "out").exists()
    errors = pq.read_table(folder / "partly").to_pylist()
    assert [row["error"] for row in errors] == [
        "it has 5 bytes, which do not fit 28x28 pixels of 1 channel; "
        "allowed are 1 or 3 channels, and 1, 2 or 4 bytes per value",
        "it has no pixels or no size: [nan, 28, 1]",
        "it has 1568 bytes, which do not fit 28x28 pixels of 2 channels; "
        "allowed are 1 or 3 channels, and 1, 2 or 4 bytes per value",
        "it has no pixels or no size: [28, 28, 1]",
        None,
    ]
