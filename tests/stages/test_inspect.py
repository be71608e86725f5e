"""`inspect`: what is in a folder, measured on images whose noise is known, and every fault by its name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli, wait_for, write_digits
from PIL import Image
from skimage import data

from pipeline.config import Config
from pipeline.stages.inspect import PAGE, inspect, page_of
from pipeline.stages.prepare import prepare

SHOT, READ = 0.01, 0.0005  # variances, at white and at black


def crops(count: int) -> np.ndarray:
    """Squares of a photograph, float [N, 64, 64] in [0, 1]."""
    picture, rng = data.camera() / 255, np.random.default_rng(0)
    places = rng.integers(0, [[picture.shape[0] - 64, picture.shape[1] - 64]], (count, 2))
    return np.stack([picture[top : top + 64, left : left + 64] for top, left in places])


def noisy(clean: np.ndarray, seed: int) -> np.ndarray:
    return clean + np.sqrt(SHOT * clean + READ) * np.random.default_rng(seed).normal(size=clean.shape)


def save(path: Path, image: np.ndarray, white: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (image.clip(0, 1) * white).round()
    Image.fromarray(pixels.astype(np.uint8 if white == 255 else np.uint16)).save(path)


def said(folder: Path, capsys: pytest.CaptureFixture[str], **options: str | float) -> dict[str, str]:
    """The lines of `inspect` by what they are about."""
    assert inspect(Config(dataset=str(folder), **options), folder.parent / "page")  # type: ignore[arg-type]
    return dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())


def test_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, clean in enumerate(crops(40)):
        save(tmp_path / "set" / "clean" / f"{number}.png", clean)
        save(tmp_path / "set" / "noisy" / f"{number}.png", noisy(clean, number))
    found = said(tmp_path / "set", capsys)
    assert found["layout"].startswith("pairs: 40 noisy with 40 clean; 8 bits: white 255")
    assert found["images"] == "40 of 64x64, 8 bits"
    check_curve(found)
    assert found["train with"] == f"python -m pipeline run --dataset {tmp_path / 'set'} --model resunet"


def test_bursts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, clean in enumerate(crops(30)):
        for capture in range(3):
            save(tmp_path / "bursts" / f"scene{number}" / f"noisy{capture}.png", noisy(clean, 3 * number + capture))
    found = said(tmp_path / "bursts", capsys)
    assert found["layout"].startswith("bursts: 30 scenes with 3 captures each")
    check_curve(found)


def check_curve(found: dict[str, str]) -> None:
    a, b = map(float, re.findall(r"variance ([\d.e-]+) x \+ ([\d.e-]+)", found["by brightness"])[0])
    assert a == pytest.approx(SHOT, rel=0.15)
    assert b == pytest.approx(READ, abs=0.0004)


def test_noisy_images_alone_of_12_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for number, clean in enumerate(crops(40)):
        save(tmp_path / "noisy" / f"{number}.png", clean + 0.05 * rng.normal(size=clean.shape), white=4095)
    found = said(tmp_path / "noisy", capsys)
    assert "12 bits in 16: white 4095" in found["layout"]
    sigma = re.findall(r"standard deviation ([\d.]+)", found["noise"])
    assert float(sigma[0]) == pytest.approx(0.05, rel=0.1)
    assert found["train with"].endswith("--target r2r")


def test_dark_images_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, clean in enumerate(crops(10)):
        save(tmp_path / "set" / f"{number}.png", clean / 20, white=4095)
    assert found_dark(said(tmp_path / "set", capsys, white=4095.0), "5%")
    assert found_dark(said(tmp_path / "set", capsys), "80%") is False  # 8 bits in 16
    for number, clean in enumerate(crops(10)):  # counts, in 8 and in 16 bits
        save(tmp_path / "8" / f"{number}.png", clean / 4)
        save(tmp_path / "16" / f"{number}.tif", clean * 63 / 4095, white=4095)
    for name in ("8", "16"):
        assert found_dark(said(tmp_path / name, capsys), "25%")


def found_dark(found: dict[str, str], used: str) -> bool:
    """Whether there is a warning, after checking how much is said to be used."""
    assert f"up to {used} of white" in found["values"]
    return f"which is {used} of the way from black to white; if white is less" in found.get("note", "")


def test_every_fault_is_named_and_nothing_is_prepared(cli: Cli, tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "set", digits[:20])
    for name in ("broken.png", "worse.png"):
        (tmp_path / "set" / name).write_bytes(b"no image")
    (tmp_path / "set" / "paper.pdf").write_bytes(b"%PDF-1.4")
    done = cli("inspect", "set", "--output", "out")
    assert (done.code, done.err) == (1, "")
    page = (tmp_path / "out" / PAGE).read_text()
    for text in (done.out, page):
        assert text.count("broken.png") == text.count("worse.png") == 1
        assert "paper.pdf" in text
        assert "20 of 28x28, 8 bits" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "set"]


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [
        ([0], "dataset 'set' has 1 image; it needs at least 3, one each for training, validation and test"),
        ([0, 1], "dataset 'set' has 2 images; it needs at least 3, one each for training, validation and test"),
        (
            [0] * 20,
            "dataset 'set' has 20 images in 1 group kept together; it needs at least 3 groups, one each for training, "
            "validation and test",
        ),
    ],
)
def test_a_folder_that_cannot_be_split_has_a_fault(numbers: list[int], fault: str, cli: Cli, tmp_path: Path) -> None:
    for name, number in enumerate(numbers):
        save(tmp_path / "set" / f"{name}.png", crops(2)[number])
    done = cli("inspect", "set")
    assert (done.code, done.err) == (1, "")
    assert f"fault: {fault}\nonce that is mended, train with: " in done.out
    assert fault.replace("'", "&#39;") in (tmp_path / "inspection" / PAGE).read_text()
    refused = cli("prepare", "--dataset", "set")
    dry = cli("run", "--dataset", "set", "--dry-run")
    for ended in (refused, dry):
        assert (ended.code, ended.err) == (1, f"Error: {fault}\n")
    assert "would run" not in dry.out


def test_floats_with_another_white_get_the_command_that_fits(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    np.save(tmp_path / "set" / "stack.npy", (crops(10) * 4000).astype(np.float32))
    done = cli("inspect", "set")
    assert done.code == 1
    assert "train with: python -m pipeline run --dataset set --white 4095 --model resunet\n" in done.out
    assert cli("prepare", "--dataset", "set", "--white", 4095).code == 0


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda images: 2 * images - 1, ("--white", 1, "--black", -1)),
        (lambda images: 4000 * images - 200, ("--white", 4095)),  # noise below black
        (lambda images: 90000 * images - 50000, ("--white", 40000, "--black", -50000)),
    ],
)
def test_the_command_has_the_levels_that_floats_need(
    change: Callable[[np.ndarray], np.ndarray], options: tuple[str | int, ...], cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "set").mkdir()
    images = crops(10)
    images[0, 0, :2] = 0, 1
    np.save(tmp_path / "set" / "stack.npy", change(images).astype(np.float32))
    done = cli("inspect", "set")
    assert f"run --dataset set {' '.join(map(str, options))} --model resunet\n" in done.out
    assert cli("prepare", "--dataset", "set", *options).code == 0


def test_the_command_mends_what_is_wrong(cli: Cli, tmp_path: Path) -> None:
    save(tmp_path / "set" / "gray.png", crops(1)[0])
    for number, clean in enumerate(crops(9)):
        save(tmp_path / "set" / f"{number}.png", clean[..., None].repeat(3, axis=2))
    assert "run --dataset set --channels 1 --model resunet\n" in cli("inspect", "set").out
    assert cli("prepare", "--dataset", "set", "--channels", 1).code == 0
    for number, clean in enumerate(crops(9)):
        save(tmp_path / "dark" / f"{number}.tif", clean, white=1023)
    assert "run --dataset dark --white 1023 --model resunet\n" in cli("inspect", "dark", "--white", 255).out


def test_the_parts_of_a_dataset_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for number, clean in enumerate(crops(20)):
        part = "test" if number < 5 else "train"
        save(
            tmp_path / "set" / part / "noisy" / f"{number}.png", clean / 2 + 0.25 + 0.05 * rng.normal(size=clean.shape)
        )
        save(tmp_path / "set" / part / "clean" / f"{number}.png", clean / 2 + 0.25)
    found = said(tmp_path / "set", capsys)
    assert found["parts"] == "15 in train, 5 in test; validation will be taken from train"
    assert re.fullmatch(
        r"variance 0.002\d*, the same at every brightness: of electronics|"
        r"variance [\d.e-]+ x \+ 0.002\d* at brightness x: the first of photons, the second of electronics",
        found["by brightness"],
    )


def test_the_page_fits_a_phone(tmp_path: Path, digits: np.ndarray, browser: object) -> None:
    write_digits(tmp_path / "set", digits[:20])
    config = Config(dataset=str(tmp_path / "set"), data_dir=str(tmp_path / "data"))
    page = page_of(prepare(config), config)
    assert not re.search(r"(src|href)=(?![\"']data:)", page)  # nothing is fetched
    (tmp_path / "page.html").write_text(page)
    metrics = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)  # type: ignore[attr-defined]
    browser.get(f"file://{tmp_path / 'page.html'}")  # type: ignore[attr-defined]
    wait_for(browser, "[...document.images].every(image => image.naturalWidth > 0)")
    wait_for(browser, "document.images.length === 2 && document.documentElement.scrollWidth <= 360")
