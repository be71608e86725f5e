"""The batches that training takes: whole images, or random crops of images of any size.

All random choices come from the caller's generator.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from pipeline.data.images import Images
from pipeline.errors import PipelineError

EVALUATION_BATCH = 500  # images; larger batches gain nothing on CPU


class Batches(Protocol):
    """The training images of an epoch."""

    device: torch.device

    def __len__(self) -> int:
        """Number of images in an epoch."""
        ...

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Batches of uint8 [n, C, H, W] on `device`."""
        ...


class WholeImages:
    """Every image once per epoch, in random order. `pixels`: uint8 [N, C, H, W]."""

    def __init__(self, pixels: torch.Tensor) -> None:
        self.pixels, self.device = pixels, pixels.device

    def __len__(self) -> int:
        return len(self.pixels)

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
        for batch in torch.randperm(len(self), generator=generator, device=self.device).split(batch_size):
            yield self.pixels[batch]


class RandomCrops:
    """Random squares of `size` pixels, flipped and turned, as many per epoch as cover the area of the images."""

    def __init__(self, images: Sequence[torch.Tensor], size: int) -> None:
        self.images, self.size, self.device = images, size, images[0].device
        self._areas = torch.tensor([float(image.shape[-2] * image.shape[-1]) for image in images])

    def __len__(self) -> int:
        return max(1, int(self._areas.sum().item()) // self.size**2)

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
        # Drawn on the generator's device once per epoch, because reading a value back waits for the device.
        draws = torch.rand((len(self), 4), generator=generator, device=self.device).cpu()
        shares = (self._areas / self._areas.sum()).cumsum(0)
        chosen = torch.searchsorted(shares, draws[:, 0].contiguous()).clamp(max=len(self.images) - 1).tolist()
        for rows in torch.arange(len(self)).split(batch_size):
            yield torch.stack([self._crop(self.images[chosen[row]], *draws[row, 1:].tolist()) for row in rows.tolist()])

    def _crop(self, image: torch.Tensor, down: float, right: float, turn: float) -> torch.Tensor:
        height, width = image.shape[-2:]
        top, left = int(down * (height - self.size + 1)), int(right * (width - self.size + 1))
        crop = image[:, top : top + self.size, left : left + self.size]
        symmetry = int(turn * 8)  # of the square
        crop = crop.rot90(symmetry // 2, (1, 2))
        return crop.flip(2) if symmetry % 2 else crop


def training_batches(images: Images, crop: int, device: torch.device) -> Batches:
    """Whole images if `crop` is 0, else random crops with sides of `crop` pixels.

    Raises:
        PipelineError: whole images differ in size, or an image is smaller than the crop.
    """
    if crop == 0:
        return WholeImages(_as_tensor(_one_size(images)).to(device))
    _check_crop(images, crop)
    return RandomCrops([_as_tensor(image).to(device) for image in images], crop)


def validation_images(images: Images, crop: int, device: torch.device) -> torch.Tensor:
    """uint8 [N, C, H, W]: the images, or all adjacent squares with sides of `crop` pixels in them.

    Raises:
        PipelineError: as `training_batches` does.
    """
    if crop == 0:
        return _as_tensor(_one_size(images)).to(device)
    _check_crop(images, crop)
    squares = [
        image[:, top : top + crop, left : left + crop]
        for image in images
        for top in range(0, image.shape[1] - crop + 1, crop)
        for left in range(0, image.shape[2] - crop + 1, crop)
    ]
    return torch.from_numpy(np.stack(squares)).to(device)


def _as_tensor(images: np.ndarray) -> torch.Tensor:
    """Shares the memory, which must not be written to: it may be mapped from a file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images)


def _one_size(images: Images) -> np.ndarray:
    if isinstance(images, list):
        raise PipelineError("the training images differ in size; train on random crops of them, such as --crop 64")
    return images


def _check_crop(images: Images, crop: int) -> None:
    height, width = min((image.shape[1:] for image in images), key=min)
    if min(height, width) < crop:
        raise PipelineError(
            f"--crop {crop} is larger than the smallest image, which has {height}x{width} pixels (height x width)"
        )
