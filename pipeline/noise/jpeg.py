"""What JPEG does to images, for whole batches on any device: the rounding of their cosine coefficients.

The entropy coding of a JPEG file loses nothing, so it is left out. A library's codec takes one image at a time, on the
CPU; a test holds the result to that of one.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from pipeline.noise.base import constant

BLOCK = 8  # pixels

# The tables of coefficients' step sizes in Annex K of the standard (ITU-T T.81), for quality 50.
_LUMA = """
    16 11 10 16 24 40 51 61  12 12 14 19 26 58 60 55  14 13 16 24 40 57 69 56  14 17 22 29 51 87 80 62
    18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92  49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99
"""
_CHROMA = """
    17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99  47 66 99 99 99 99 99 99
    99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99
"""

# The orthonormal cosine transform of 8 values, as the rows of a matrix.
_BASIS = tuple(
    tuple(
        math.sqrt((1 if row == 0 else 2) / BLOCK) * math.cos(math.pi * (2 * place + 1) * row / (2 * BLOCK))
        for place in range(BLOCK)
    )
    for row in range(BLOCK)
)

# RGB to luma and two colour differences (ITU-R BT.601), and back.
TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def in_colours(images: torch.Tensor, matrix: tuple[tuple[float, ...], ...]) -> torch.Tensor:
    """Float [N, 3, H, W] times `TO_YCC` or `TO_RGB`. The colour differences are around 0."""
    return torch.einsum("ij,njhw->nihw", constant(matrix, images), images)


def compressed(images: torch.Tensor, quality: torch.Tensor, halved: bool = False) -> torch.Tensor:
    """Images as they come back from a JPEG file.

    Args:
        images: float [N, 1 or 3, H, W], pixels in [0, 1].
        quality: from 1 to 100, [N, 1, 1, 1], as libjpeg scales the standard's tables.
        halved: store the colour differences at half the height and width (4:2:0).

    Returns:
        The same shape, in [0, 1], rounded to 8 bits.
    """
    height, width = images.shape[-2:]
    unit = 2 * BLOCK if halved and images.shape[1] == 3 else BLOCK
    padded = functional.pad(images, (0, -width % unit, 0, -height % unit), mode="replicate") * 255
    planes = (in_colours(padded, TO_YCC) if images.shape[1] == 3 else padded).round()  # as files hold integers
    luma = _rounded(planes[:, :1] - 128, _steps(_LUMA, images), quality) + 128
    if images.shape[1] == 3:
        chroma = functional.avg_pool2d(planes[:, 1:], 2) if halved else planes[:, 1:]
        chroma = _rounded(chroma, _steps(_CHROMA, images), quality)
        if halved:
            chroma = functional.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
        padded = in_colours(torch.cat([luma, chroma], dim=1), TO_RGB)
    else:
        padded = luma
    return padded[..., :height, :width].round().clamp(0, 255) / 255


def _rounded(planes: torch.Tensor, steps: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """Planes [N, C, H, W] with sides of whole blocks, the coefficients of each block rounded to multiples of steps."""
    count, channels, height, width = planes.shape
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)[..., None, None]  # [N, 1, 1, 1, 1, 1]
    steps = ((steps * scale + 50) / 100).floor().clamp(1, 255)[:, :, :, 0, :, :]  # [N, 1, 1, 8, 8]
    basis = constant(_BASIS, planes)
    blocks = planes.view(count, channels, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    blocks = torch.einsum("ui,ncaibj,vj->ncabuv", basis, blocks, basis)
    steps = steps[:, :, :, None]
    blocks = (blocks / steps).round() * steps
    return torch.einsum("ui,ncabuv,vj->ncaibj", basis, blocks, basis).reshape(planes.shape)


def _steps(table: str, like: torch.Tensor) -> torch.Tensor:
    return constant(tuple(float(number) for number in table.split()), like).view(BLOCK, BLOCK)
