"""The same images denoised by several models, for an HTML page, which lays them out itself."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from PIL import Image

from pipeline.reports.figures import to_pixels
from pipeline.scoring.metrics import psnr

if TYPE_CHECKING:
    from pipeline.scoring.evaluation import Sample

_LARGEST = 256  # pixels: what is larger is reduced

ImageRow = tuple[str, list[tuple[bytes, str]]]
"""A name, and images as PNG files, each with the text below it."""


def image_rows(samples: Mapping[str, Sample]) -> list[ImageRow]:
    """Rows of noisy images, of what each model makes of them, and of clean ones, with their PSNR where that is known.

    Clean and noisy images are taken from the first of `samples`, which have the names of the models.
    """
    clean, noisy, _ = next(iter(samples.values()))
    rows = {"noisy": noisy, **{name: denoised for name, (_, _, denoised) in samples.items()}}
    found = [_row(name, images, clean) for name, images in rows.items()]
    return found if clean is None else [*found, _row("clean", clean, None)]


def _row(name: str, images: torch.Tensor, clean: torch.Tensor | None) -> ImageRow:
    """The PSNR is that of what is shown: clipped to [0, 1]."""
    texts = [""] * len(images) if clean is None else [f"{value:.1f}" for value in psnr(images.clamp(0, 1), clean)]
    return name, [(_png(image), text) for image, text in zip(images, texts, strict=True)]


def _png(image: torch.Tensor) -> bytes:
    content = io.BytesIO()
    picture = Image.fromarray(to_pixels(image))
    picture.thumbnail((_LARGEST, _LARGEST), Image.Resampling.BOX)
    picture.save(content, format="png")
    return content.getvalue()
