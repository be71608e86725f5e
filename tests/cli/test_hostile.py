"""Bad input of every kind: a right result or one clear line, the documented exit code, nothing half-written."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import mlflow
import numpy as np
import pytest
from calls import run_all
from conftest import HANG, Cli, Result, Trained, environment, write_digits
from PIL import Image
from small_models import write_identity

from pipeline.cli.commands import cli as commands
from pipeline.tracking import names


def check(calls: Sequence[Sequence[str]], results: Sequence[Result], codes: Sequence[int] = (0, 1, 2)) -> None:
    """Every call ended as documented, with one line that says why if it failed; `doctor` has a line for each check."""
    wrong = []
    for call, result in zip(calls, results, strict=True):
        lines = [line for line in result.err.splitlines() if line.startswith("Error: ")]
        foreseen = "Traceback" not in result.out + result.err and "(--debug shows the traceback)" not in result.err
        if (
            result.code not in codes
            or not foreseen
            or len(lines) != (result.code > 0 and (call[0], result.code) != ("doctor", 1))
        ):
            wrong.append((call, result))
    assert wrong == []


def check_nothing_is_half_written(folder: Path) -> None:
    assert [str(path) for path in folder.rglob(".*") if path.is_dir()] == []
    assert [path.name for path in (folder / "data" / "runs").glob("*/")] == []
    if (folder / "mlflow.db").exists():
        runs = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_runs(["0"], max_results=5000)
        assert {run.info.status for run in runs} <= {"FINISHED", "FAILED"}


VALUES = [
    *("", " ", "-", "--", "-P", "nan", "inf", "-inf", "-1", "0", "1e999", "1e-999", "99999999999999999999", "0x10"),
    *("1:0", "0.1:", ":", "none", "null", "true", "[]", "{}", "%s", "$HOME", "`id`", "a b", "a\nb"),
    *("../..", "/dev/null", ".", "\u00fc", "\U0001d4b3", "\u202e", "\udcff", "x" * 300),
    *("gaussian:clip=2", "poisson:peak=", "=,:", "autoencoder:x=1", "unet:width=0"),
]


def hostile_calls() -> Iterator[list[str]]:
    """Every option of every command with every hostile value; the rest is such that nothing long can happen."""
    seen = set()
    random_values = random.Random(0)
    alphabet = "0123456789.,:=-+eE_ /\\'\"azäß\t\n"
    for name, command in commands.commands.items():
        if name in ("demo", "ui", "verify", "denoise", "promote"):  # serve, or have arguments of their own, below
            continue
        options = [option for parameter in command.params for option in parameter.opts]
        harmless = ["--dataset", "empty"] if "--dataset" in options else []
        for option in options:
            if option in ("--debug", "--force", "--fix") or (option in seen and random_values.random() < 0.97):
                continue
            seen.add(option)
            texts = ["".join(random_values.choices(alphabet, k=random_values.randint(1, 12))) for _ in range(4)]
            for value in [*VALUES, *texts]:
                yield [name, *harmless, option, value]
    for folder in (*VALUES, "empty"):
        yield ["verify", "--", folder]
        yield ["denoise", "--model", "empty", "--output", "out", "--", folder]
        yield ["denoise", "--model", folder, "--output", "out", "empty"]
        yield ["promote", "--", folder]


def test_every_option_with_hostile_values(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "below"  # ../.. is nobody else's
    (folder / "empty").mkdir(parents=True)
    calls = list(hostile_calls())
    assert len(calls) > 1000
    check(calls, run_all(folder, calls))
    check_nothing_is_half_written(tmp_path)


def idx(count: int, height: int, width: int, content: bytes) -> bytes:
    return struct.pack(">4B3I", 0, 0, 8, 3, count, height, width) + content


def test_idx_files_that_lie(tmp_path: Path, digits: np.ndarray) -> None:
    good = idx(20, 28, 28, digits[:20].tobytes())
    files = {
        **{f"cut at {length}": good[:length] for length in (*range(17), 100, len(good) - 1)},
        "too long": good + b"x",
        "2^32 - 1 images": idx(2**32 - 1, 28, 28, digits[:20].tobytes()),
        "2^96 bytes": idx(2**32 - 1, 2**32 - 1, 2**32 - 1, b""),
        "no images": idx(0, 28, 28, b""),
        "images of no size": idx(20, 0, 28, b""),
        "labels": struct.pack(">4BI", 0, 0, 8, 1, 20) + bytes(20),
        "floats": b"\0\0\x0d\x03" + good[4:],
        "a gzip": gzip.compress(good),
        "HTML": b"<html>404</html>" * 20,
    }
    calls = []
    for name, content in files.items():
        raw = tmp_path / name / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        (raw / "train-images-idx3-ubyte").write_bytes(content)
        (raw / "t10k-images-idx3-ubyte").write_bytes(good)
        calls.append(["prepare", "--dataset", "fashion-mnist", "--data-dir", name])
    # An archive is opened only if it is the one that was published: this one would unpack to 10 GB.
    raw = tmp_path / "bomb" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(10**7)) * 1000)
    (raw / "t10k-images-idx3-ubyte").write_bytes(good)
    calls.append(["prepare", "--dataset", "fashion-mnist", "--data-dir", "bomb"])
    results = run_all(tmp_path, calls)
    check(calls, results, codes=[1])
    assert "is damaged: its MD5 is" in results[-1].err
    check_nothing_is_half_written(tmp_path)


def test_image_folders(tmp_path: Path, digits: np.ndarray) -> None:
    gray = Image.fromarray(digits[0])
    big = Image.fromarray(np.kron(digits[1], np.ones((2, 2), np.uint8)))

    def write(name: str, *images: tuple[str, Image.Image | bytes]) -> None:
        folder = write_digits(tmp_path / name, digits[:5])
        for file, image in images:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(image, bytes):
                (folder / file).write_bytes(image)
            else:
                image.save(folder / file, save_all=file.endswith(".gif"), append_images=[gray])

    write("zero bytes", ("x.png", b""))
    write("text", ("x.png", b"no image"))
    png = (tmp_path / "text" / "0000.png").read_bytes()
    write("cut", ("x.png", png[: len(png) // 2]))
    write("1x1", ("x.png", Image.new("L", (1, 1))))
    write("float", ("x.tiff", Image.new("F", (28, 28))))
    header = struct.pack(">II5B", 60_000, 60_000, 8, 0, 0, 0, 0)
    write("promises 3.6 gigapixels", ("x.png", png[:16] + header + png[29:]))
    (tmp_path / "text only").mkdir()
    (tmp_path / "text only" / "notes.txt").write_text("no images here")
    write("link to nowhere")
    (tmp_path / "link to nowhere" / "x.png").symlink_to("nowhere.png")
    write("CMYK among gray", ("x.jpg", Image.new("CMYK", (28, 28))))
    write("16 bits among 8", ("x.png", Image.fromarray(digits[0].astype(np.uint16) * 257)))
    write("mixed sizes, too small for crops", *((f"{name}.png", big) for name in "xyz"))
    bad = ["zero bytes", "text", "cut", "1x1", "float", "promises 3.6 gigapixels", "text only", "link to nowhere"]
    bad += ["CMYK among gray", "16 bits among 8", "mixed sizes, too small for crops"]

    write("wrong extension", ("x.jpg", png))
    write("1 bit", ("x.png", Image.new("1", (28, 28))))
    write("animated", ("x.gif", gray))
    write("folders of folders", ("a/b/c.png", gray), ("d/e.png", gray))
    write("a name\nof two lines", ("x y\n.png", gray))
    write("hidden", (".x.png", b"no image"))
    good = ["wrong extension", "1 bit", "animated", "folders of folders", "a name\nof two lines", "hidden"]

    calls = [["prepare", "--dataset", name] for name in (*bad, *good)]
    results = run_all(tmp_path, calls)
    check(calls[: len(bad)], results[: len(bad)], codes=[1])
    check(calls[len(bad) :], results[len(bad) :], codes=[0])
    check_nothing_is_half_written(tmp_path)


def test_flipped_bits(trained: Trained, tmp_path: Path) -> None:
    """One bit anywhere in a hand-off, a checkpoint or prepared data is found, or does not matter."""
    chance = random.Random(0)

    def flip(content: bytes) -> bytes:
        place = chance.randrange(len(content))
        return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]

    calls = []
    files = sorted(path for path in trained.handoff.rglob("*") if path.is_file())
    for number, path in enumerate([*chance.choices(files, k=20), *[trained.handoff / "manifest.json"] * 10]):
        copy = Path(shutil.copytree(trained.handoff, tmp_path / f"handoff{number}"))
        target = copy / path.relative_to(trained.handoff)
        target.write_bytes(flip(target.read_bytes()) if target.stat().st_size else b"x")
        calls.append(["verify", copy.name])
    for call, result in zip(calls, run_all(tmp_path, calls), strict=True):
        assert result.code in (2, 3), (call, result)
        assert "Traceback" not in result.err

    checkpoint = next(trained.cwd.glob(f"mlruns/0/*/artifacts/{names.CHECKPOINT}"))
    content = checkpoint.read_bytes()
    driver = f"""
from pipeline.training.checkpoint import Checkpoint
from pipeline.errors import PipelineError
from pathlib import Path
wanted = Checkpoint.load(Path({str(checkpoint)!r}))
for path in sorted(Path.cwd().glob("*.pt")):
    try:
        found = Checkpoint.load(path)
    except PipelineError as error:
        assert path.name in str(error), error
        continue
    if (found.digest, found.epoch, found.model) != (wanted.digest, wanted.epoch, wanted.model):
        print("differs", found.digest != wanted.digest)
"""
    for number in range(100):
        (tmp_path / f"{number:03}.pt").write_bytes(flip(content))
    done = subprocess.run(
        [sys.executable, "-c", driver], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=HANG
    )
    assert done.returncode == 0, done.stderr
    assert "differs False" not in done.stdout  # what the run's digest of the weights would not find


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a little."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", folder]).returncode:
        pytest.skip("not run: a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_and_a_read_only_one(small_disk: Path, tmp_path: Path, cli: Cli, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:300])
    train = ("--dataset", "digits", "--epochs", "2", "--batch-size", "8")
    done = cli("prepare", "--dataset", "digits")
    assert done.code == 0

    # No room for the data; then for the states of the training; then for the hand-off; then for the store.
    (small_disk / "ballast").write_bytes(bytes(250_000))
    calls = [
        ["prepare", "--dataset", "digits", "--data-dir", "disk"],
        ["run", *train, "--name", "small", "--artifacts-dir", "disk", "--allow-worse"],
    ]
    results = run_all(tmp_path, calls)
    check(calls, results, codes=[1])
    assert "No space left on device" in results[0].err
    assert "No space left on device" in results[1].err
    (small_disk / "ballast").unlink()
    shutil.copytree(tmp_path / "data" / "prepared", small_disk / "prepared", dirs_exist_ok=True)
    free = shutil.disk_usage(small_disk).free
    (small_disk / "ballast").write_bytes(bytes(max(0, free - 40_000)))
    calls = [["train", *train, "--data-dir", "disk"]]
    results = run_all(tmp_path, calls)
    check(calls, results, codes=[1])
    assert "No space left on device" in results[0].err
    results = run_all(tmp_path, [["train", *train]], MLFLOW_TRACKING_URI=f"sqlite:///{small_disk / 'mlflow.db'}")
    check(calls, results, codes=[1])
    assert [path.name for path in small_disk.rglob(".*") if path.is_dir()] == []

    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    calls = [
        ["prepare", "--dataset", "digits", "--data-dir", "disk"],
        ["run", *train, "--data-dir", "disk", "--force"],
        ["run", *train, "--artifacts-dir", "disk", "--force", "--allow-worse"],
    ]
    results = run_all(tmp_path, calls)
    check(calls, results, codes=[1])
    assert all("Read-only file system" in result.err for result in results), results
    runs = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").search_runs(["0"])
    assert {run.info.status for run in runs} == {"FAILED"}


def test_a_full_disk_stops_denoise_and_what_was_done_stays(small_disk: Path, tmp_path: Path, cli: Cli) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 300, 300), np.uint8)  # 90 kB each, as noise
    (tmp_path / "images").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
    call = ("denoise", "images", "--model", write_identity(tmp_path / "handoff"), "--output", "disk")
    done = cli(*call)
    check([["denoise"]], [done], codes=[1])
    assert [path.name for path in sorted(small_disk.iterdir())] == [".denoised", "0.png", "1.png", "2.png", "3.png"]
    assert "Error: cannot write disk/4.png: No space left on device" in done.err

    # When there is room again, the same command does the rest.
    subprocess.run(["mount", "-o", "remount,size=2m", small_disk], check=True)
    with (small_disk / ".denoised").open("a") as file:
        file.write("half of a digest")
    done = cli(*call)
    assert (done.code, done.err) == (0, ""), done
    done = cli(*call)
    assert (done.code, done.err) == (0, ""), done
    for number, image in enumerate(images):
        with Image.open(small_disk / f"{number}.png") as result:
            assert (np.asarray(result) == image).all()


def test_nobody_else_may_write_and_nothing_outside_is_read(tmp_path: Path, cli: Cli, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:20])
    mask = os.umask(0)
    try:
        assert cli("prepare", "--dataset", "digits").code == 0
        assert cli("train", "--dataset", "digits", "--epochs", 1).code == 0
    finally:
        os.umask(mask)
    made = [
        path
        for name in ("data", "mlflow.db", "mlflow.db.lock")
        for path in (tmp_path / name, *(tmp_path / name).rglob("*"))
    ]
    assert len(made) > 5
    assert [path for path in made if path.stat().st_mode & stat.S_IWOTH] == []

    (manifest,) = (tmp_path / "data").rglob("manifest.json")
    facts = json.loads(manifest.read_text())
    facts["files"]["../../outside/train.npy"] = facts["files"].pop("train.npy")
    manifest.write_text(json.dumps(facts))
    done = cli("prepare", "--dataset", "digits")
    assert done.code == 0
    assert "is damaged: it names an unknown file ../../outside/train.npy" in done.out
