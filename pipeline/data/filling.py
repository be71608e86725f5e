"""Places that say nothing of a picture's noise, because they are transparent or exactly flat.

A model for photographs that is told nothing judges the noise by what is around a pixel. Beside a black frame, a
saturated sky or the paper of a page it would take a noisy picture for a clean one, some 45 pixels deep. So it is shown
there what it sees elsewhere: the average around, with noise as strong as in the rest of the picture.
"""

from __future__ import annotations

import numpy as np

_SIDE = 9  # pixels: of the smallest flat area; a block of a JPEG, which is flat where the quality is low, has 8
_BLOCK, _BLOCKS = 8, 4096  # pixels: a side of the blocks in which noise is measured; about how many blocks are enough
_PERCENTILE = 40  # of those blocks, for what is filled in: tried on noisy and on clean photographs with frames
_STRIP = 512  # rows that are worked on at a time, so that a large picture needs little memory


def filled(pixels: np.ndarray, hidden: np.ndarray | None, with_noise: bool = False) -> np.ndarray:
    """Pixels whose hidden places are what is visible around them, on average.

    Args:
        pixels: [N, C, H, W], uint8, uint16 or float32.
        hidden: bool [N, H, W]; None if nothing is.
        with_noise: as strong as that of what is visible; the same in all channels if the pixels are.
    """
    if hidden is None:
        return pixels
    some = hidden.any(axis=(1, 2)) & ~hidden.all(axis=(1, 2))
    if not some.any():
        return pixels
    pixels = pixels.copy()
    for number in np.flatnonzero(some):
        _fill(pixels[number], hidden[number], with_noise)
    return pixels


def flat_areas(pixels: np.ndarray) -> np.ndarray:
    """Which pixels lie in a square of 9x9 equal ones: where there is no noise, and nothing to remove.

    Args:
        pixels: [N, C, H, W], of any type.

    Returns:
        bool [N, H, W].
    """
    count, _, height, width = pixels.shape
    flat = np.zeros((count, height, width), bool)
    if min(height, width) < _SIDE:
        return flat
    for top in range(0, height - _SIDE + 1, _STRIP):
        part = pixels[:, :, top : top + _STRIP + _SIDE - 1]
        rows = _runs((part[..., 1:] == part[..., :-1]).all(axis=1), _SIDE - 1, axis=2)
        columns = _runs((part[..., 1:, :] == part[..., :-1, :]).all(axis=1), _SIDE - 1, axis=1)
        squares = _runs(rows, _SIDE, axis=1) & columns[..., : rows.shape[2]]  # by the place of their first pixel
        if squares.any():
            margin = _SIDE - 1
            outside = np.pad(~squares, ((0, 0), (margin, margin), (margin, margin)), constant_values=True)
            flat[:, top : top + part.shape[2]] |= ~_runs(_runs(outside, _SIDE, axis=1), _SIDE, axis=2)
    return flat


def noise_deviation(pixels: np.ndarray, visible: np.ndarray, percentile: float = 10) -> np.ndarray:
    """An estimate of the standard deviation of the noise in each channel; 0 for a drawing without noise.

    The median of |a - b - c + d| over the 2x2 pixels in a block of 8x8, which is 0.6745 * 2 standard deviations of
    normal noise, in the blocks where it is low. What pixels share with the next does not count.

    Args:
        pixels: [C, H, W], of any type.
        visible: bool [H, W]; blocks that are not visible throughout do not count.
        percentile: of the blocks. At a low one there is only noise, and the least of it; at a higher one texture, too.

    Returns:
        float [C], in the units of the pixels.
    """
    rows, columns = (side // _BLOCK for side in visible.shape)
    if not rows or not columns:
        return np.zeros(len(pixels))
    step = max(1, rows * columns // _BLOCKS)

    def blocks(of: np.ndarray) -> np.ndarray:
        of = of[..., : rows * _BLOCK, : columns * _BLOCK].reshape(-1, rows, _BLOCK, columns, _BLOCK)[:, ::step]
        return of.swapaxes(2, 3).reshape(len(of), -1, _BLOCK, _BLOCK)

    chosen = blocks(visible)[0].all(axis=(1, 2))
    if not chosen.any():
        return np.zeros(len(pixels))
    found = blocks(pixels)[:, chosen].astype(np.float32)
    differences = found[..., :-1, :-1] - found[..., :-1, 1:] - found[..., 1:, :-1] + found[..., 1:, 1:]
    medians = np.median(np.abs(differences, out=differences).reshape(*differences.shape[:2], -1), axis=2)
    return np.percentile(medians, percentile, axis=1) / (0.6745 * 2)


def _runs(true: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Whether `length` values in a row are true, by the place of the first."""
    found = 1
    while found < length:
        step = min(found, length - found)
        end = true.shape[axis] - step
        true = true.take(range(end), axis) & true.take(range(step, step + end), axis)
        found += step
    return true


def _fill(pixels: np.ndarray, hidden: np.ndarray, with_noise: bool) -> None:
    """Change the hidden places of a picture, [C, H, W]."""
    visible = ~hidden
    low, high = pixels.min(), pixels.max()
    deviation = noise_deviation(pixels, visible, _PERCENTILE).astype(np.float32) if with_noise else None
    channels = 1 if (pixels == pixels[:1]).all() else len(pixels)
    around = _averages(_halved(np.where(visible, pixels, 0)), _halved(visible[np.newaxis]))
    random = np.random.default_rng(0)
    for top in range(0, len(hidden), _STRIP):
        strip = slice(top, top + _STRIP)
        if not (here := hidden[strip]).any():
            continue
        values = _doubled(around[:, top // 2 : (top + _STRIP) // 2], here.shape)
        if deviation is not None:
            values += deviation[:, np.newaxis, np.newaxis] * random.standard_normal((channels, *here.shape), np.float32)
        if pixels.dtype.kind == "u":
            np.rint(values, out=values)
        pixels[:, strip] = np.where(here, values.clip(low, high).astype(pixels.dtype), pixels[:, strip])


def _averages(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Averages on a grid: at a place without any weight, of the smallest block of places around it that has some.

    Args:
        sums: float [C, H, W], of what is averaged.
        weights: float [1, H, W], how many values each sum has.
    """
    averages = sums / np.maximum(weights, 1)
    if (weights > 0).all() or averages[0].size == 1:
        return averages
    coarse = _averages(_halved(sums), _halved(weights))
    return np.where(weights > 0, averages, _doubled(coarse, weights.shape[1:]))


def _halved(grid: np.ndarray) -> np.ndarray:
    """Sums over blocks of 2x2, in float32."""
    height, width = (side + side % 2 for side in grid.shape[1:])
    sums = np.zeros((len(grid), height // 2, width // 2), np.float32)
    for row in (0, 1):
        for column in (0, 1):
            part = grid[:, row::2, column::2]
            sums[:, : part.shape[1], : part.shape[2]] += part
    return sums


def _doubled(grid: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Each value in a block of 2x2, cut to a height and a width."""
    return grid.repeat(2, axis=1).repeat(2, axis=2)[:, : shape[0], : shape[1]]
