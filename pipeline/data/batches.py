"""The batches that training takes: whole images, or random crops of images of any size.

All random choices come from the caller's generator.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from pipeline.data.images import EIGHT_BITS, Images, Levels, Part, take
from pipeline.errors import PipelineError

EVALUATION_BATCH = 125  # images of 28x28: larger batches leave the cache, and are up to half as fast on a CPU


@dataclass(frozen=True)
class Batch:
    """Images of one size, [N, C, H, W] each: as they are stored, or as `floats` returns them."""

    clean: torch.Tensor | None
    noisy: torch.Tensor | None = None  # a recorded capture of each scene
    second: torch.Tensor | None = None  # another one of the same scene
    levels: Levels = EIGHT_BITS

    @property
    def images(self) -> torch.Tensor:
        """The captures, or else the clean images."""
        images = self.clean if self.noisy is None else self.noisy
        assert images is not None
        return images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, chosen: slice) -> Batch:
        """Some of the images."""
        return self._each(lambda images: images[chosen])

    def floats(self) -> Batch:
        """As float32 on the [0, 1] scale."""
        return self._each(self.levels.to_tensor)

    def to(self, device: torch.device) -> Batch:
        """On a device."""
        return self._each(lambda images: images.to(device))

    def split(self, size: int) -> Iterator[Batch]:
        """Batches of up to `size` images."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        clean, noisy, second = (
            None if images is None else change(images) for images in (self.clean, self.noisy, self.second)
        )
        return replace(self, clean=clean, noisy=noisy, second=second)


class Batches(Protocol):
    """The training images of an epoch."""

    device: torch.device

    def __len__(self) -> int:
        """Number of images in an epoch."""
        ...

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Batches on `device`, as they are stored."""
        ...


class WholeImages:
    """Every image of a part once per epoch, in random order. All have one size."""

    def __init__(self, part: Part, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._part = part
        self._clean, self._noisy = (
            None if images is None else _as_tensor(_one_size(images)).to(device) for images in (part.clean, part.noisy)
        )
        self._scenes = None if part.scenes is None else torch.from_numpy(part.scenes).to(device)

    def __len__(self) -> int:
        return len(self._part)

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        order = torch.randperm(len(self), generator=generator, device=self.device)
        others = _other_captures(self._part, generator)
        for rows in order.split(batch_size):
            scenes = rows if self._scenes is None else self._scenes[rows]
            yield Batch(
                None if self._clean is None else self._clean[scenes],
                None if self._noisy is None else self._noisy[rows],
                None if self._noisy is None or others is None else self._noisy[others.to(self.device)[rows]],
                self._part.levels,
            )


class RandomCrops:
    """Random squares of `size` pixels, flipped and turned, as many per epoch as cover the area of the images.

    Args:
        part: the images.
        size: in pixels.
        device: of the crops.
        by_detail: draw places in proportion to the mean gradient of the square there, instead of all alike. Photographs
            are smooth for the most part, and a network learns little from that.
    """

    def __init__(self, part: Part, size: int, device: torch.device | str = "cpu", by_detail: bool = False) -> None:
        self.size, self.device = size, torch.device(device)
        self._part = part
        self._clean, self._noisy = (
            None if images is None else [_as_tensor(image).to(device) for image in images]
            for images in (part.clean, part.noisy)
        )
        self._area = sum(image.shape[-2] * image.shape[-1] for image in part.images)
        self._cells, weights = _cells(self._shown, size, by_detail)
        self._shares = weights.cumsum(0) / weights.sum()

    @property
    def _shown(self) -> list[torch.Tensor]:
        """The image behind every image of the part that shows its detail best: the clean one, where there is one."""
        if self._clean is None or self._noisy is None:
            return self._clean or self._noisy or []
        assert self._part.scenes is not None
        return [self._clean[scene] for scene in self._part.scenes]

    def __len__(self) -> int:
        return crops_per_epoch(self._area, self.size)

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        # Drawn on the generator's device once per epoch, because reading a value back waits for the device.
        draws = torch.rand((len(self), 4), generator=generator, device=self.device).cpu()
        others = _other_captures(self._part, generator)
        chosen = torch.searchsorted(self._shares, draws[:, 0].double()).clamp(max=len(self._shares) - 1)
        cells = self._cells[chosen]  # [N, 5]: the number of an image, and a rectangle of places in it
        tops, lefts = (
            (cells[:, first] + draws[:, draw].double() * cells[:, first + 2]).long() for draw, first in ((1, 1), (2, 2))
        )
        places = torch.stack([tops, lefts, (draws[:, 3] * 8).long()], dim=1)
        for rows in torch.arange(len(self)).split(batch_size):
            images, at = cells[rows, 0].tolist(), places[rows].tolist()
            scenes = images if self._part.scenes is None else [int(self._part.scenes[image]) for image in images]
            second = None if others is None else [int(others[image]) for image in images]
            yield Batch(
                self._crops(self._clean, scenes, at),
                self._crops(self._noisy, images, at),
                self._crops(self._noisy, second, at),
                self._part.levels,
            )

    def _crops(
        self, images: list[torch.Tensor] | None, numbers: list[int] | None, places: list[list[int]]
    ) -> torch.Tensor | None:
        if images is None or numbers is None:
            return None
        return torch.stack([self._crop(images[number], *place) for number, place in zip(numbers, places, strict=True)])

    def _crop(self, image: torch.Tensor, top: int, left: int, symmetry: int) -> torch.Tensor:
        """A square of the image, in one of the 8 symmetries of a square."""
        crop = image[:, top : top + self.size, left : left + self.size].rot90(symmetry // 2, (1, 2))
        return crop.flip(2) if symmetry % 2 else crop


def _cells(images: list[torch.Tensor], size: int, by_detail: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Where crops may begin, in small rectangles, and how often each of these is to be chosen.

    Returns:
        int64 [N, 5]: the number of the image, the rectangle's top and left, its height and width. And float64 [N]: the
        weight of each, which is its area, times the gradients in the crop in its middle if that is asked for.
    """
    step = max(1, size // 2)
    cells, weights = [], []
    for number, image in enumerate(images):
        places = [side - size + 1 for side in image.shape[-2:]]
        sides = [torch.arange(0, end, step) for end in places]
        heights, widths = ((end - begin).clamp(max=step) for begin, end in zip(sides, places, strict=True))
        tops, lefts = torch.meshgrid(*sides, indexing="ij")
        areas = heights[:, None] * widths
        rectangles = [torch.full_like(tops, number), tops, lefts, *torch.meshgrid(heights, widths, indexing="ij")]
        cells.append(torch.stack(rectangles, dim=-1).flatten(0, 1))
        weight = areas.double()
        if by_detail:
            middles = [begin + length // 2 for begin, length in ((sides[0], heights), (sides[1], widths))]
            weight *= _detail(image, size, *middles)
        weights.append(weight.flatten())
    total = torch.cat(weights)
    # Where all is flat, no place is better than another.
    return torch.cat(cells), total if total.sum() > 0 else torch.ones_like(total)


def _detail(image: torch.Tensor, size: int, tops: torch.Tensor, lefts: torch.Tensor) -> torch.Tensor:
    """The sum of the gradients in squares of `size` pixels that begin at `tops` and `lefts`: float64 [tops, lefts]."""
    gray = image.float().mean(dim=0)
    gradient = (gray[1:, 1:] - gray[:-1, :-1]).abs() + (gray[1:, :-1] - gray[:-1, 1:]).abs()
    # Sums over rectangles from the top left corner give the sum over any square.
    sums = torch.nn.functional.pad(gradient.double().cumsum(0).cumsum(1), (1, 0, 1, 0)).cpu()
    ends = [(begin + size - 1).clamp(max=side - 1) for begin, side in zip((tops, lefts), image.shape[-2:], strict=True)]
    upper, lower = sums[tops], sums[ends[0]]
    return (lower[:, ends[1]] - lower[:, lefts] - upper[:, ends[1]] + upper[:, lefts]).clamp(min=0)


def crops_per_epoch(pixels: int, size: int) -> int:
    """How many squares of `size` pixels cover an area in pixels."""
    return max(1, pixels // size**2)


def training_batches(part: Part, crop: int, device: torch.device, by_detail: bool = False) -> Batches:
    """Whole images if `crop` is 0, else random crops with sides of `crop` pixels, see `RandomCrops`.

    Raises:
        PipelineError: whole images differ in size, or an image is smaller than the crop.
    """
    if crop == 0:
        return WholeImages(part, device)
    _check_crop(part.images, crop)
    return RandomCrops(part, crop, device, by_detail)


def validation_batch(part: Part, crop: int, most: int, device: torch.device) -> Batch:
    """The first `most` images, or the first `most` adjacent squares with sides of `crop` pixels in them.

    Raises:
        PipelineError: as `training_batches` does.
    """
    part = part[:most]
    other = None
    if part.layout == "bursts":
        assert part.noisy is not None
        other = take(part.noisy, part.other_captures(np.zeros(len(part))))
    shown = part.clean if part.clean is None or part.scenes is None else take(part.clean, part.scenes)
    clean, noisy, second = (
        None if images is None else _as_tensor(_squares(images, crop)[:most]) for images in (shown, part.noisy, other)
    )
    return Batch(clean, noisy, second, part.levels).to(device)


def _squares(images: Images, crop: int) -> np.ndarray:
    """[N, C, H, W]: the images if `crop` is 0, else all adjacent squares in them."""
    if crop == 0:
        return _one_size(images)
    _check_crop(images, crop)
    return np.stack(
        [
            image[:, top : top + crop, left : left + crop]
            for image in images
            for top in range(0, image.shape[1] - crop + 1, crop)
            for left in range(0, image.shape[2] - crop + 1, crop)
        ]
    )


def _other_captures(part: Part, generator: torch.Generator) -> torch.Tensor | None:
    """For each capture of a burst, another one of the same scene, drawn by the generator."""
    if part.layout != "bursts":
        return None
    turn = torch.rand(len(part), generator=generator, device=generator.device)
    return torch.from_numpy(part.other_captures(turn.cpu().numpy()))


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
