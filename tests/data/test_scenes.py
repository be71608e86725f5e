"""What is said of a folder's images besides their layout."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from folders import prepared, refusal, write
from scipy.ndimage import gaussian_filter
from skimage import data as pictures

from pipeline.config import Config
from pipeline.data.images import Part
from pipeline.data.sources.scenes import describe_noise
from pipeline.stages.inspect import inspect


def test_noisy_images_that_are_taken_for_clean_are_pointed_out(digits: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(0, 25, digits[:60].shape)
    noisy = (100 + digits[:60] / 4 + noise).clip(0, 255).astype(np.uint8)[:, np.newaxis]
    said = describe_noise(Part(noisy))
    assert said.startswith("these images look noisy")
    assert float(said.split("standard deviation of ")[1].split()[0]) == pytest.approx(25 / 255, rel=0.1)
    assert describe_noise(Part(digits[:60][:, np.newaxis])) == ""
    assert describe_noise(Part(None, noisy, np.arange(60))) == ""


def write_pairs(folder: Path, clean: list[np.ndarray], noisy: list[np.ndarray]) -> None:
    for name, images in (("clean", clean), ("noisy", noisy)):
        for number, image in enumerate(images):
            write(folder / name / f"{number}.png", image.clip(0, 255).round().astype(np.uint8))


def test_swapped_folders_are_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str], digits: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    camera = [pictures.camera()[top : top + 64, 200:264].astype(float) for top in range(0, 400, 40)]
    for name, clean in (("digits", list(digits[:10].astype(float))), ("camera", camera)):
        grainy = [image + gaussian_filter(rng.normal(0, 40, image.shape), 0.7) for image in clean]
        write_pairs(tmp_path / name, clean, grainy)
        assert prepared(tmp_path / name).layout == "pairs"
        assert "places" not in capsys.readouterr().out
        swapped = tmp_path / "swapped" / name
        write_pairs(swapped, grainy, clean)
        said = refusal(swapped)
        assert "the clean images look noisier than the noisy ones in 10 of 10 pairs, as if" in said
        found = re.findall(
            r"(clean|noisy)/\d.png has a standard deviation of ([\d.]+)|(noisy)/\d.png one of ([\d.]+)", said
        )
        assert float(found[0][1]) > 2 * float(found[1][3])
        capsys.readouterr()
        assert not inspect(Config(dataset=str(swapped)), tmp_path / "page")
        seen = capsys.readouterr().out
        assert f"fault: {said.split(': ', 1)[1]}\n" in seen
        assert "layout: pairs: 10 noisy with 10 clean" in seen  # and everything else, too
        # Whoever says which are which is believed.
        given = prepared(swapped / "clean", noisy=str(swapped / "noisy"))
        assert given.layout == "pairs"
        assert "warning: the clean images look noisier" in capsys.readouterr().out


def test_sharper_clean_images_are_no_swapped_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = [pictures.camera()[top : top + 64, 200:264].astype(float) for top in range(0, 400, 40)]
    write_pairs(tmp_path / "blurred", clean, [gaussian_filter(image, 1) for image in clean])
    assert prepared(tmp_path / "blurred").layout == "pairs"
    assert "places" not in capsys.readouterr().out
