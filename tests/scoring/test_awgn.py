"""The protocol of the literature: its noise, its independence of files, and what is published beside a score."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config import AUTO, Config
from pipeline.data.images import Part
from pipeline.data.sources import open_source
from pipeline.errors import PipelineError
from pipeline.scoring import awgn, published
from pipeline.scoring.metrics import METRICS
from pipeline.scoring.score import clipped, identity, score


def pictures(count: int = 3, side: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 1, side, side), np.uint8)


def read(folder: Path) -> Part:
    return open_source(Config(dataset=str(folder))).divide(AUTO, folder).train


def test_noise_is_not_clipped_and_what_comes_out_is() -> None:
    black = Part(np.zeros((2, 1, 200, 200), np.uint8))
    for sigma, noise in zip(awgn.SIGMAS, awgn.noises().values(), strict=True):
        found = score(black, noise, {"noisy": identity, "clipped": clipped}, {"psnr": METRICS["psnr"]})
        assert noise.level == pytest.approx(sigma / 255, rel=1e-6)
        wanted = -20 * math.log10(sigma / 255)  # at 25: 20.17 dB
        assert found["noisy"]["psnr"] == pytest.approx(wanted, abs=0.1)
        # Half of the noise on black is negative, and a clipped output has none of it.
        assert found["clipped"]["psnr"] == pytest.approx(wanted + 10 * math.log10(2), abs=0.1)
    assert [*awgn.noises()] == ["awgn-15", "awgn-25", "awgn-50"]


def test_the_digest_and_the_noise_are_those_of_the_pixels(tmp_path: Path) -> None:
    images = pictures()
    for folder, order, suffix in (("one", (0, 1, 2), "png"), ("two", (2, 0, 1), "tif"), ("three", (1, 2, 0), "pgm")):
        (tmp_path / folder).mkdir()
        for place, number in enumerate(order):
            Image.fromarray(images[number, 0]).save(tmp_path / folder / f"{place}.{suffix}")
    parts = [read(tmp_path / folder) for folder in ("one", "two", "three")]
    assert len({awgn.digest_of(part) for part in parts}) == 1
    noise, denoisers = awgn.noises()["awgn-25"], {"clipped": clipped}
    scores = [score(awgn.ordered(part), noise, denoisers, METRICS)["clipped"]["psnr"] for part in parts]
    for other in scores[1:]:
        assert np.array_equal(other, scores[0])
    assert len(set(scores[0])) == 3

    changed = images.copy()
    changed[1, 0, 3, 3] ^= 1
    assert awgn.digest_of(Part(changed)) != awgn.digest_of(Part(images))
    assert awgn.digest_of(Part(images[:2])) != awgn.digest_of(Part(images))
    assert awgn.digest_of(Part(images.reshape(3, 1, 20, 80))) != awgn.digest_of(Part(images))


def test_pairs_are_scored_by_their_clean_images() -> None:
    images = pictures()
    pairs = Part(images, images[::-1], np.arange(3))
    assert awgn.digest_of(pairs) == awgn.digest_of(Part(images))
    assert awgn.ordered(pairs).noisy is None
    with pytest.raises(PipelineError, match="there are only noisy ones"):
        awgn.ordered(Part(None, images, np.arange(3)))


def test_what_is_published_stands_beside_the_score_of_a_known_set(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = awgn.digest_of(Part(pictures()))
    ours = {"awgn-15": 30.0, "awgn-25": 28.5, "awgn-50": 25.25}
    assert published.describe_known(digest, ours) == []
    bsd68 = next(known for known in published.KNOWN_SETS.values() if known.name == "BSD68")
    monkeypatch.setitem(published.KNOWN_SETS, digest, bsd68)
    first, *rows, last = published.describe_known(digest, ours)
    assert "the 68 gray photographs of BSD68" in first
    assert "31.07  28.57  25.62  BM3D, told the level: Zhang et al. 2017 (DnCNN)" in rows
    assert last == "30.00  28.50  25.25  this model"
    assert published.describe_known(digest, {"0.01": 30.0}) == []  # nobody reports that level
    assert published.describe_known(digest, {}) == []


def test_every_published_row_is_whole() -> None:
    for digest, known in published.KNOWN_SETS.items():
        assert len(digest) == 64
        assert int(known.images.split()[0]) > 0
        for row in known.rows:
            assert row.source
            levels = [row.psnr[label] for label in awgn.noises()]
            assert levels == sorted(levels, reverse=True)  # more noise, less PSNR: figures in the wrong place are found
            assert all(20 < value < 40 for value in levels)
