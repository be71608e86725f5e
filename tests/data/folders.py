"""Folders of small images to prepare, for the tests of what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config import Config
from pipeline.data.images import Part
from pipeline.data.prepared import PreparedData
from pipeline.errors import PipelineError
from pipeline.stages.prepare import prepare

TEN = range(10)


def picture(scene: int, capture: int = 0, dtype: type = np.uint8) -> np.ndarray:
    """The clean image of a scene (capture 0), or a noisy one, which has every pixel larger by its number."""
    return (np.random.default_rng(scene).integers(0, 200, (32, 40)) + capture).astype(dtype)


def write(path: Path, *pages: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, np.stack(pages)[:, np.newaxis])
    else:
        first, *others = map(Image.fromarray, pages)
        if others:
            first.save(path, save_all=True, append_images=others)
        else:
            first.save(path)


def write_all(folder: Path, clean: str, noisy: str, captures: int = 1, scenes: range = TEN) -> None:
    """Write the images of scenes under names with {scene} and {capture} in them; none under ""."""
    for scene in scenes:
        if clean:
            write(folder / clean.format(scene=scene), picture(scene))
        for capture in range(1, captures + 1):
            if noisy:
                write(folder / noisy.format(scene=scene, capture=capture), picture(scene, capture))


def prepared(folder: Path, **options: object) -> PreparedData:
    return prepare(Config(dataset=str(folder), data_dir=str(folder.parent / "data"), **options))  # type: ignore[arg-type]


def parts(data: PreparedData) -> list[Part]:
    return [data.train, data.validation, data.test]


def refusal(folder: Path, **options: object) -> str:
    """The one line that refuses a folder; nothing is left of trying."""
    with pytest.raises(PipelineError) as error:
        prepared(folder, **options)
    assert "\n" not in str(error.value)
    data = folder.parent / "data" / "prepared"
    assert [path.name for path in data.iterdir() if path.suffix != ".lock"] == []
    return str(error.value)


def message_of(call: Callable[[], object]) -> str:
    with pytest.raises(PipelineError) as error:
        call()
    return str(error.value)
