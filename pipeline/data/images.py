"""What an image is everywhere in the pipeline: its type, its shape, its values, and how these are converted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

SMALLEST_SIDE = 11  # pixels: the window of SSIM
MAX_PSNR = 100.0  # dB; an error far below one step of 8 bits, or none at all

Images = np.ndarray | list[np.ndarray]
"""uint8, uint16 or float32 [N, C, H, W] where all images have one size, else a list of [C, H, W] of one type."""


@dataclass(frozen=True)
class Levels:
    """The pixel values that stand for 1 and 0."""

    white: float = 255
    black: float = 0

    @classmethod
    def of_type(cls, dtype: np.dtype | type) -> Levels:
        """Those of a type: its whole range; [0, 1] for floats."""
        return cls(1.0 if np.issubdtype(dtype, np.floating) else float(np.iinfo(dtype).max))

    def to_floats(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels of any shape and type to float32, where `white` becomes 1 and `black` 0. Nothing is clipped."""
        floats = pixels.astype(np.float32, copy=False)
        if self.black:
            floats = floats - np.float32(self.black)
        return floats if self.white - self.black == 1 else floats / np.float32(self.white - self.black)

    def to_tensor(self, pixels: torch.Tensor) -> torch.Tensor:
        """As `to_floats`, of torch tensors; the result is a copy."""
        floats = pixels.float() if pixels.dtype.itemsize < 4 else pixels.clone()
        if self.black:
            floats -= self.black
        return floats.div_(self.white - self.black)

    def from_floats(self, images: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
        """Floats of any shape to pixels of `dtype`; for integers clipped to black and white, halves to even.

        NaN, as a training that diverges gives it, becomes any integer.
        """
        span = self.white - self.black
        if np.issubdtype(dtype, np.floating):
            return (images * np.float32(span) + np.float32(self.black)).astype(dtype, copy=False)
        with np.errstate(invalid="ignore"):
            return np.rint(images.clip(0, 1) * span + self.black).astype(dtype)


EIGHT_BITS = Levels()


@dataclass(frozen=True)
class Part:
    """The images of a part of a dataset: clean ones, recorded noisy captures, or both.

    An image of the part, which `len` counts and a slice takes, is a capture if there are captures, else a clean image.
    """

    clean: Images | None  # one per scene
    noisy: Images | None = None  # of one size within a scene
    scenes: np.ndarray | None = None  # int64 [len(noisy)]: the scene that each capture shows, in ascending order
    levels: Levels = EIGHT_BITS

    @property
    def images(self) -> Images:
        """The captures, or else the clean images."""
        images = self.clean if self.noisy is None else self.noisy
        assert images is not None
        return images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, chosen: slice) -> Part:
        """Some of the images, with the scenes that they show."""
        numbers = np.arange(len(self))[chosen]
        if self.noisy is None:
            return replace(self, clean=take(self.images, numbers))
        assert self.scenes is not None
        shown, scenes = np.unique(self.scenes[numbers], return_inverse=True)
        clean = None if self.clean is None else take(self.clean, shown)
        return replace(self, clean=clean, noisy=take(self.noisy, numbers), scenes=scenes)

    @property
    def scene_count(self) -> int:
        """How many scenes the images show."""
        if self.clean is not None:
            return len(self.clean)
        return 0 if self.scenes is None else int(self.scenes.max(initial=-1)) + 1

    @property
    def layout(self) -> str:
        """`clean` images; `pairs` of a clean and a noisy one; `bursts` of captures of a scene; `noisy` images alone."""
        if self.noisy is None:
            return "clean"
        assert self.scenes is not None
        if len(self.scenes) > len(np.unique(self.scenes)):
            return "bursts"
        return "noisy" if self.clean is None else "pairs"

    def captures_of(self, scenes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the captures of some scenes, in the order of these, and the place of each one's scene."""
        assert self.scenes is not None
        first, last = (np.searchsorted(self.scenes, scenes, side) for side in ("left", "right"))
        captures = np.concatenate([np.arange(0), *map(np.arange, first, last)])
        return captures, np.repeat(np.arange(len(scenes)), last - first)

    def other_captures(self, turn: np.ndarray) -> np.ndarray:
        """For each capture, the number of another one of the same scene, or its own where there is none.

        Args:
            turn: float [len(self)] in [0, 1): which of the others.
        """
        assert self.scenes is not None
        first, last = (np.searchsorted(self.scenes, self.scenes, side) for side in ("left", "right"))
        others = last - first - 1
        place = np.arange(len(self)) - first
        return first + (place + (others > 0) * (1 + (turn * others).astype(np.int64))) % (others + 1)

    def for_noise(self, is_recorded: bool) -> Part:
        """The part as it is, for its own noise; or else the clean images alone, for noise that is drawn."""
        return self if is_recorded else replace(self, noisy=None, scenes=None)

    def scene_of(self, number: int) -> int:
        """The number of the scene that image `number` shows."""
        return number if self.scenes is None else int(self.scenes[number])


def take(images: Images, numbers: np.ndarray) -> Images:
    """The images with these numbers; consecutive ones of an array as a view, which stays mapped from its file."""
    if not isinstance(images, np.ndarray):
        return [images[number] for number in numbers]
    if len(numbers) and np.array_equal(numbers, np.arange(numbers[0], numbers[0] + len(numbers))):
        return images[numbers[0] : numbers[0] + len(numbers)]
    return images[numbers]


def as_images(images: list[np.ndarray]) -> Images:
    """A list of [C, H, W], as one array if they all have one size."""
    return np.stack(images) if len({image.shape for image in images}) == 1 else images


def some_floats(images: Images | Sequence[np.ndarray], levels: Levels, most: int) -> list[np.ndarray]:
    """At most `most` of the images, evenly chosen, as float32 [C, H, W] on the [0, 1] scale; to estimate noise from."""
    return [levels.to_floats(image) for image in images[:: -(-len(images) // most)]]


def to_floats(pixels: np.ndarray) -> np.ndarray:
    """uint8 or uint16 of any shape to float32, the whole range of the type to [0, 1]; float32 is returned unchanged."""
    return Levels.of_type(pixels.dtype).to_floats(pixels)


def to_integers(images: np.ndarray, dtype: np.dtype | type = np.uint8) -> np.ndarray:
    """Floats of any shape to uint8 or uint16, as `Levels.from_floats`, [0, 1] to the whole range of the type."""
    return Levels.of_type(dtype).from_floats(images, dtype)


def psnr_of_error(error: np.ndarray | float) -> np.ndarray:
    """PSNR in dB of one or many mean squared errors of pixels in [0, 1]: -10 log10(error), at most `MAX_PSNR`."""
    with np.errstate(divide="ignore"):
        return np.minimum(-10 * np.log10(error), MAX_PSNR)


def describe_sizes(*parts: Images) -> str:
    """Height x width of all parts, smallest to largest: `28x28`, or `300x451 to 1080x1920`."""
    # In an array, all are as large as the first.
    images = [image for part in parts for image in (part[:1] if isinstance(part, np.ndarray) else part)]
    sizes = sorted({image.shape[1:] for image in images}, key=lambda size: (size[0] * size[1], size))
    texts = [f"{height}x{width}" for height, width in (sizes[0], sizes[-1])]
    return texts[0] if len(sizes) == 1 else " to ".join(texts)
