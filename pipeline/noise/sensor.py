"""The noise of photographs as cameras store them: that of the sensor, changed by all that the camera does next."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError
from pipeline.noise.base import Noise, constant, normal
from pipeline.noise.ranges import Range

if TYPE_CHECKING:
    import torch

_GAMMA = 2.2
_DARKEST = 1e-8  # of linear light, where a root has a slope
# Of the white balance, for red, green and blue (Brooks et al. 2019).
_GAINS = (Range(1.9, 2.4), Range(1, 1), Range(1.5, 1.9))
# How bilinear demosaicking weighs a pixel and its neighbours of the same colour; green has no diagonal ones.
_RED_OR_BLUE = ((0.25, 0.5, 0.25), (0.5, 1.0, 0.5), (0.25, 0.5, 0.25))
_GREEN = ((0.0, 0.25, 0.0), (0.25, 1.0, 0.25), (0.0, 0.25, 0.0))


@dataclass(frozen=True)
class SensorNoise(Noise):
    """What a camera stores: photons counted behind a colour filter, demosaicked, rendered, smoothed and compressed.

    The clean photograph is taken back to linear light: the inverse of a tone curve of gamma 2.2 and a smoothstep, and
    of the white balance, with gains of 1.9 to 2.4 for red and 1.5 to 1.9 for blue (Brooks et al. 2019,
    "unprocessing"). There, every pixel of a Bayer pattern gets noise of variance shot x + read, with log read = 2.18
    log shot + 1.2 and a standard deviation of 0.26 around it, as they fitted it to real cameras. Then the way back:
    bilinear demosaicking, white balance, tone curve. What this adds to the photograph is blurred, as by the denoising
    in cameras, by Gaussians of standard deviation `luma` and `chroma` pixels. Last come 8 bits and JPEG of
    a `quality` from 1 to 100, every other image with its colours at half the size.

    For gray or colour. Of a gray image, all three colours are the same, and the brightness of the result is kept.
    """

    name = "sensor"
    shot: Range = Range(1e-4, 1e-2)
    luma: Range = Range(0.1, 0.9)
    chroma: Range = Range(0, 2.5)
    quality: Range = Range(75, 100)

    def check(self) -> None:
        super().check()
        if not 1 <= self.quality.low <= self.quality.high <= 100:
            raise PipelineError(f"--noise sensor: quality {self.quality} must be from 1 to 100")
        if self.shot.low == 0:
            raise PipelineError(f"--noise sensor: shot {self.shot} must be above 0")

    @property
    def has_grain(self) -> bool:
        return True

    def _options(self) -> dict[str, str]:
        """Only those that differ from a usual camera's: all of them would make long names."""
        defaults = {field.name: str(field.default) for field in fields(self)}
        return {name: text for name, text in super()._options().items() if text != defaults[name]}

    def __call__(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        import torch

        from pipeline.noise.jpeg import TO_RGB, TO_YCC, compressed, in_colours

        if clean.shape[1] not in (1, 3):
            raise PipelineError(f"--noise sensor is for images with 1 or 3 channels; these have {clean.shape[1]}")
        colour = clean.expand(-1, 3, -1, -1)
        linear = _linear(colour)
        noisy = _rendered(linear + self._sensor_noise(linear, generator))
        planes = in_colours(noisy - colour, TO_YCC)
        luma = _blurred(planes[:, :1], self.luma.values(clean, "uniform", generator), self.luma.high)
        if clean.shape[1] == 1:
            stored = clean + luma
        else:
            chroma = _blurred(planes[:, 1:], self.chroma.values(clean, "uniform", generator), self.chroma.high)
            stored = clean + in_colours(torch.cat([luma, chroma], dim=1), TO_RGB)
        stored = (stored.clamp(0, 1) * 255).round() / 255
        quality = self.quality.values(clean, "uniform", generator)
        shifted = _Shifted(stored, generator)
        files = torch.empty_like(shifted.images)
        for first, halved in ((0, True), (1, False)):
            files[first::2] = compressed(shifted.images[first::2], quality[first::2], halved)
        return shifted.back(files)

    def _sensor_noise(self, linear: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """What noise behind a Bayer pattern adds to linear light [N, 3, H, W] after demosaicking and white balance."""
        import torch
        from torch.nn import functional

        shot = self.shot.values(linear, "log", generator)
        read = (2.18 * shot.log() + 1.2 + 0.26 * normal(shot, generator)).exp()
        gains = torch.cat([gain.values(linear, "uniform", generator) for gain in _GAINS], dim=1)
        noise = (shot * linear / gains + read).sqrt() * normal(linear[:, :1], generator) * gains
        seen = _bayer(linear, generator)
        weights = constant((_RED_OR_BLUE, _GREEN, _RED_OR_BLUE), linear)[:, None]
        total = functional.conv2d(noise * seen, weights, padding=1, groups=3)
        return total / functional.conv2d(seen, weights, padding=1, groups=3).clamp(min=0.25)


def _linear(images: torch.Tensor) -> torch.Tensor:
    """Rendered pixels in [0, 1] to linear light in [0, 1]."""
    curve = 0.5 - ((1 - 2 * images.clamp(0, 1)).asin() / 3).sin()
    return curve.clamp(min=0) ** _GAMMA


def _rendered(linear: torch.Tensor) -> torch.Tensor:
    """The inverse of `_linear`; light beyond [0, 1] is clipped."""
    curve = linear.clamp(_DARKEST, 1) ** (1 / _GAMMA)
    return curve * curve * (3 - 2 * curve)


def _bayer(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Which colour every pixel sees: 1 for one of the three channels of [N, 3, H, W], from a random corner on."""
    import torch

    corner = (like.new_empty((2, len(like), 1, 1)).uniform_(generator=generator) * 2).floor()
    rows = (torch.arange(like.shape[2], device=like.device)[:, None] + corner[0]) % 2
    columns = (torch.arange(like.shape[3], device=like.device) + corner[1]) % 2
    red, blue = (1 - rows) * (1 - columns), rows * columns
    return torch.stack([red, 1 - red - blue, blue], dim=1).to(like.dtype)


def _blurred(images: torch.Tensor, deviation: torch.Tensor, most: float) -> torch.Tensor:
    """Images [N, C, H, W] blurred by Gaussians of standard deviation [N, 1, 1, 1] pixels, `most` at most."""
    import torch
    from torch.nn import functional

    reach = math.ceil(3 * most)
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    weights = (-(offsets**2) / (2 * deviation.clamp(min=1e-2).square())).exp()
    weights = weights / weights.sum(dim=-1, keepdim=True)  # [N, 1, 1, taps]
    count, channels, height, width = images.shape
    weights = weights.expand(-1, channels, -1, -1).reshape(count * channels, 1, 1, -1)
    planes = images.reshape(1, count * channels, height, width)
    planes = functional.pad(planes, (reach, reach, reach, reach), mode="replicate")
    planes = functional.conv2d(planes, weights, groups=count * channels)
    planes = functional.conv2d(planes, weights.transpose(2, 3), groups=count * channels)
    return planes.reshape(images.shape)


class _Shifted:
    """Images moved by up to a block, each by another distance, so that JPEG's blocks begin anywhere."""

    def __init__(self, images: torch.Tensor, generator: torch.Generator) -> None:
        import torch

        from pipeline.noise.jpeg import BLOCK

        draws = images.new_empty((2, len(images), 1)).uniform_(generator=generator)
        self._distances = (draws * BLOCK).floor().long()
        self._height, self._width = images.shape[-2:]
        rows, columns = (torch.arange(side + BLOCK, device=images.device) for side in images.shape[-2:])
        self.images = _picked(
            images,
            (rows - self._distances[0]).clamp(0, self._height - 1),
            (columns - self._distances[1]).clamp(0, self._width - 1),
        )

    def back(self, images: torch.Tensor) -> torch.Tensor:
        import torch

        rows, columns = (torch.arange(side, device=images.device) for side in (self._height, self._width))
        return _picked(images, rows + self._distances[0], columns + self._distances[1])


def _picked(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Of each image, some rows [N, H] and columns [N, W]."""
    count, channels = images.shape[:2]
    images = images.gather(2, rows[:, None, :, None].expand(-1, channels, -1, images.shape[3]))
    return images.gather(3, columns[:, None, None, :].expand(count, channels, images.shape[2], -1))
