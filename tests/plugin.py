"""A small package that adds a model, a noise, a metric and a source, as `pip install` would leave it in a folder."""

from __future__ import annotations

from pathlib import Path

PARTS = '''"""What this package adds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.images import Part
from pipeline.data.sources import Division
from pipeline.noise import Noise
from pipeline.noise.ranges import Range

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Stripes(Noise):
    """Every second row is brighter by a number that is drawn for it."""

    name = "stripes"
    strength: Range = Range(0.1, 0.1)

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        noisy = clean.clone()
        rows = clean.new_empty(clean[..., ::2, :1].shape).normal_(generator=generator)
        noisy[..., ::2, :] += rows * self.strength.low
        return noisy


def mae(images: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """Mean absolute error."""
    return (images - clean).abs().mean(dim=(1, 2, 3))


class Squares:
    origin, licence = "drawn", "free"

    def __init__(self, data_dir: Path) -> None:
        rng = np.random.default_rng(0)
        self.images = np.zeros((70, 1, 16, 16), np.uint8)
        for image, (top, left) in zip(self.images, rng.integers(0, 8, (70, 2)), strict=True):
            image[:, top : top + 8, left : left + 8] = 200

    def inputs(self) -> dict[str, str]:
        return {}

    def divide(self, channels: object, scratch: Path) -> Division:
        return Division(Part(self.images))

    def test_labels(self) -> None:
        return None
'''
NETWORKS = '''import torch
from torch import nn


class Tiny(nn.Module):
    """One layer.

    And no more.
    """

    def __init__(self, channels: int = 1, width: int = 4, *, is_wide: bool = False, name: str = "tiny") -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images - self.last(self.first(images).relu())).clamp(0, 1)
'''
ENTRIES = {
    "models": "tiny = tiny_parts.networks:Tiny",
    "noises": "stripes = tiny_parts:Stripes",
    "metrics": "mae = tiny_parts:mae",
    "sources": "squares = tiny_parts:Squares",
}


def install(folder: Path) -> Path:
    """The package, in a folder that is made for it; returns the folder."""
    (folder / "tiny_parts").mkdir(parents=True)
    (folder / "tiny_parts" / "__init__.py").write_text(PARTS)
    (folder / "tiny_parts" / "networks.py").write_text(NETWORKS)
    register(folder, "tiny-parts", ENTRIES)
    return folder


def register(folder: Path, package: str, entries: dict[str, str]) -> None:
    """What the metadata of a package say that it adds: lines `name = module:attribute` by the table."""
    metadata = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    groups = [f"[denoise_pipeline.{table}]\n{lines}\n" for table, lines in entries.items()]
    (metadata / "entry_points.txt").write_text("\n".join(groups))
