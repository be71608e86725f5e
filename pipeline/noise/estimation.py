"""How strong the noise of images is, and how white what a denoiser removed is, without clean images.

Images are any sequence of float32 [C, H, W] with clean pixels on the [0, 1] scale, such as an array [N, C, H, W] or a
list of arrays of any sizes. All of them are taken to have the same noise, and every channel counts as an image.
Estimates look at up to 100,000 patches or pixels, drawn from a fixed seed: equal images give equal results.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Images = np.ndarray | Sequence[np.ndarray]

_SAMPLES = 100_000  # patches or pixels; more do not change the third digit
_SIDES = ((30_000, 7), (5_000, 5), (0, 3))  # with so many patches or more, their side in pixels
_PER_VALUE = 20  # patches for every value of a patch that a covariance needs
_UNCLIPPED = 0.1  # share of the patches without a clipped pixel above which only those count
_CLIPPED = 0.02  # share of clipped samples above which a bin of brightness does not count
_BINS = 24  # of brightness
_FEWEST = 100  # pixels in a bin
_POINTS = 3  # bins without clipped pixels that a line needs
_OUTLIER = 4.0  # standard deviations
_REACH = 2  # pixels: the largest shift that `whiteness` looks at


@dataclass(frozen=True)
class NoiseCurve:
    """The variance of noise by brightness x: about a x + b (Foi et al. 2008), `a` of photons and `b` of electronics.

    Attributes:
        a, b: at least 0; the variance is b at black and a + b at white. Both are 0 where there are no points.
        brightness, variance: float64 [P], the points that the line was fitted to, from dark to bright.
    """

    a: float
    b: float
    brightness: np.ndarray
    variance: np.ndarray


def noise_sigma(images: Images) -> float:
    """The standard deviation of the white noise of all images together, on the [0, 1] scale.

    Noise is equally strong along every direction in the space of small patches, and an image is not: of the
    eigenvalues of the patches' covariance, the smallest ones are the noise's variance (Chen, Zhu and Heng 2015). Here
    the covariance is that of the patches with no more differences between neighbours than noise of the level found so
    far explains, by turns (Liu, Tanaka and Okutomi 2013): digits and textures leave no direction empty.

    Accuracy, measured at sigma 0.02 to 0.3: within 2 % for 2,000 MNIST digits and 6 % for one; for each of eleven
    photographs of scikit-image within 3 % from 0.1 up, 8 % at 0.05 and 9 % at 0.02, where grass, whose texture looks
    like noise, is 21 % off. Clipping to [0, 1] hides noise: clipped photographs give the same up to 0.1, on average 8
    % too little at 0.2 and 14 % at 0.3. Where most of the image is black, as in digits, clipping leaves 0.57 of the
    sigma, and that is the result. Noise with grain looks weaker than it is. Images without a flat place give too
    much, and images without noise about 0.

    Args:
        images: at least one, each at least 3 pixels high and wide.
    """
    patches = _patches(images)
    unclipped = ~_is_clipped(patches).any(axis=1)
    return float(np.sqrt(_variance(patches[unclipped] if unclipped.mean() > _UNCLIPPED else patches)))


def curve_of_pairs(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> NoiseCurve:
    """The noise by brightness from noisy images and their clean ones, whose pixels say how bright each noisy one is.

    What is left out is as for `curve_of_captures`.

    Args:
        pairs: a clean and a noisy image each, float32 [C, H, W].
    """
    rng = np.random.default_rng(0)
    samples = [np.empty((3, 0), np.float32)]
    for clean, noisy in pairs:
        samples.append(_samples(rng, noisy - clean, _is_clipped(noisy), clean))
    squares, clipped, brightness = np.concatenate(samples, axis=1)
    return _curve_of_squares(squares, clipped, brightness, [brightness])


def curve_of_captures(scenes: Iterable[np.ndarray]) -> NoiseCurve:
    """The noise by brightness from several captures of each scene: from the differences between one and the next.

    Pixels are sorted by their neighbours. Sorted by their own values, those with bright noise would count as bright
    places, which makes the line too flat. But where dark lies beside bright all over, as in digits, every such bin
    has clipped pixels, and their own values are the better choice.

    Outliers are left out, such as things that moved, and so are brightnesses at which pixels are clipped to 0 or 1,
    unless there are no others.

    Args:
        scenes: float32 [K, C, H, W] each, K captures of one scene, K at least 2.
    """
    rng = np.random.default_rng(0)
    samples = [np.empty((4, 0), np.float32)]
    for captures in scenes:
        clipped, around = _is_clipped(captures).any(axis=0).ravel(), _neighbours(captures.mean(axis=0))
        for first, second in pairwise(captures):
            found = _samples(rng, second - first, clipped, (first + second) / 2, around)
            found[0] /= 2  # both are noisy
            samples.append(found)
    squares, clipped, brightness, around = np.concatenate(samples, axis=1)
    return _curve_of_squares(squares, clipped, brightness, [around, brightness])


def curve_of_images(images: Images) -> NoiseCurve:
    """The noise by brightness from single images: `noise_sigma` of the patches of each brightness.

    Good where each brightness has flat places, as in photographs (`a` within 10 %); digits have them at black and at
    white only, and their edges count as noise. Brightnesses are left out as by `curve_of_captures`.

    Args:
        images: at least one, each at least 3 pixels high and wide.
    """
    patches = _patches(images)
    brightness, clipped = patches.mean(axis=1), _is_clipped(patches).mean(axis=1)
    bins = _bins([brightness], brightness, clipped, fewest=_PER_VALUE * patches.shape[1])
    return _fitted([(centre, _variance(patches[members]), len(members)) for centre, members in bins])


def whiteness(removed: Images) -> float:
    """How far from white what was removed is: the largest absolute autocorrelation at shifts of up to 2 pixels.

    0 for white noise, whatever its strength and wherever it is stronger (chance alone gives about 3 divided by the
    root of the number of pixels); 1 at most. A denoiser that removes white noise alone leaves less than 0.05; blurred
    edges in what was removed give 0.1 to 0.5, and noise with grain has as much as its grain: 0.6 for a blur of 0.7
    pixels.

    Args:
        removed: the noisy images less the denoised ones, float32 [C, H, W] each. Their mean is taken off.
    """
    sums = np.zeros((_REACH + 1, 2 * _REACH + 1))
    for image in removed:
        values = image.astype(np.float64) - image.mean(axis=(1, 2), keepdims=True)
        height, width = values.shape[1:]
        for down, right in np.ndindex(sums.shape):
            across = right - _REACH
            first = values[:, : height - down, max(0, -across) : width - max(0, across)]
            second = values[:, down:, max(0, across) : width - max(0, -across)]
            # Of fewer pixels than the image has: their mean, times as many as it has.
            sums[down, right] += (first * second).mean() * values.size if first.size else 0
    energy = sums[0, _REACH]
    if energy == 0:
        return 0.0
    sums[0, _REACH] = 0
    return min(1.0, float(np.abs(sums).max() / energy))


def _patches(images: Images) -> np.ndarray:
    """Overlapping square patches of all images, float64 [P, side * side]."""
    sizes = np.array([image.shape for image in images])
    total = int((sizes[:, 0] * (sizes[:, 1:] - 2).prod(axis=1)).sum())
    # Larger ones tell an image from noise better, but must be few in an image: some places have to be flat.
    side = next(side for fewest, side in _SIDES if total >= fewest and (side == 3 or 3 * side <= sizes[:, 1:].min()))
    counts = sizes[:, 0] * (sizes[:, 1:] - side + 1).prod(axis=1)  # patches in each image
    ends = counts.cumsum()
    rng = np.random.default_rng(0)
    chosen = np.arange(ends[-1]) if ends[-1] <= _SAMPLES else np.unique(rng.integers(ends[-1], size=_SAMPLES))
    parts = []
    for number in np.unique(owners := np.searchsorted(ends, chosen, side="right")):
        windows = np.lib.stride_tricks.sliding_window_view(images[number], (side, side), axis=(1, 2))
        here = chosen[owners == number] - (ends[number] - counts[number])
        parts.append(windows[np.unravel_index(here, windows.shape[:3])].reshape(len(here), -1))
    return np.concatenate(parts).astype(np.float64)


def _is_clipped(pixels: np.ndarray) -> np.ndarray:
    return (pixels == 0) | (pixels == 1)


def _variance(patches: np.ndarray) -> float:
    """The variance of the white noise in patches [P, side * side]."""
    side = round(patches.shape[1] ** 0.5)
    squares = patches.reshape(-1, side, side)
    differences = sum((np.diff(squares, axis=axis) ** 2).sum(axis=(1, 2)) for axis in (1, 2))
    # The sum of squared differences is a quadratic form of the pixels, whose mean and deviation in noise are known.
    steps = np.diff(np.eye(side), axis=0)
    form = np.kron(steps.T @ steps, np.eye(side)) + np.kron(np.eye(side), steps.T @ steps)
    limit = np.trace(form) + 3 * np.sqrt(2 * np.trace(form @ form))
    enough = _PER_VALUE * side**2
    tenth = max(enough, len(patches) // 10)
    found = _smallest(patches[np.argsort(differences)[:tenth]])  # too little; more patches are flat by this measure
    for _ in range(20):
        flat = patches[differences <= limit * found]
        if len(flat) < enough:
            break
        before, found = found, _smallest(flat)
        if abs(found - before) <= 1e-3 * before:
            break
    return found


def _smallest(patches: np.ndarray) -> float:
    """The mean of the smallest eigenvalues of the covariance: as many as have a mean no larger than their median."""
    values = np.linalg.eigvalsh(np.cov(patches, rowvar=False)).clip(min=0)  # from small to large
    means = values.cumsum() / np.arange(1, len(values) + 1)
    medians = np.array([np.median(values[:count]) for count in range(1, len(values) + 1)])
    return float(means[means <= medians * (1 + 1e-9)][-1])


def _samples(
    rng: np.random.Generator, differences: np.ndarray, clipped: np.ndarray, *of_pixels: np.ndarray
) -> np.ndarray:
    """Of up to `_SAMPLES` pixels the squared difference, whether they are clipped, and more: float32 [2 + n, P]."""
    chosen = rng.permutation(differences.size)[:_SAMPLES]
    squares = (differences.ravel()[chosen] - np.median(differences)) ** 2  # the light may have changed
    return np.stack([squares, *(values.ravel()[chosen] for values in (clipped, *of_pixels))]).astype(np.float32)


def _neighbours(image: np.ndarray) -> np.ndarray:
    """The mean of the four pixels beside each, at an edge of those inside; [C, H, W]."""
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    vertical, horizontal = padded[:, :, 1:-1], padded[:, 1:-1]
    return (vertical[:, :-2] + vertical[:, 2:] + horizontal[..., :-2] + horizontal[..., 2:]) / 4


def _curve_of_squares(
    squares: np.ndarray, clipped: np.ndarray, brightness: np.ndarray, sortings: Sequence[np.ndarray]
) -> NoiseCurve:
    bins = _bins(sortings, brightness, clipped, _FEWEST)
    return _fitted([(centre, _mean_without_outliers(squares[members]), len(members)) for centre, members in bins])


def _bins(
    sortings: Sequence[np.ndarray], brightness: np.ndarray, clipped: np.ndarray, fewest: int
) -> list[tuple[float, np.ndarray]]:
    """Mean brightness and members of bins that have at least so many members, from dark to bright.

    Args:
        sortings: what samples can be sorted by, [P] each; bins are equally wide in it. The first one counts with which
            a line has enough bins.
        brightness, clipped: of every sample, [P], the latter as a share; clipped bins are left out if there are others.
        fewest: members.
    """
    found: list[np.ndarray] = []
    for values in sortings if len(brightness) else ():
        low, high = np.percentile(values, (0.5, 99.5))
        numbers = np.searchsorted(np.linspace(low, high, _BINS + 1)[1:-1], values)
        inside = (values >= low) & (values <= high)
        every = [np.flatnonzero(inside & (numbers == number)) for number in range(_BINS)]
        every = [members for members in every if len(members) >= fewest]
        unclipped = [members for members in every if clipped[members].mean() <= _CLIPPED]
        found = unclipped or every
        if len(unclipped) >= _POINTS:
            break
    return sorted(((float(brightness[members].mean()), members) for members in found), key=lambda one: one[0])


def _mean_without_outliers(squares: np.ndarray) -> float:
    for _ in range(10):
        kept = squares[squares <= _OUTLIER**2 * squares.mean()]
        if len(kept) == len(squares):
            break
        squares = kept
    return float(squares.mean())


def _fitted(points: list[tuple[float, float, int]]) -> NoiseCurve:
    """The line through (brightness, variance, members). A variance is known to a share of itself: weights follow."""
    if not points:
        return NoiseCurve(0.0, 0.0, np.empty(0), np.empty(0))
    x, y, count = np.array(points).T
    a, b = 0.0, float(np.average(y, weights=count))
    for _ in range(20):
        weights = count / np.maximum(a * x + b, 1e-12) ** 2
        mean_x, mean_y = np.average(x, weights=weights), np.average(y, weights=weights)
        spread = np.average((x - mean_x) ** 2, weights=weights)
        a = max(0.0, np.average((x - mean_x) * (y - mean_y), weights=weights) / spread if spread > 1e-12 else 0.0)
        b = mean_y - a * mean_x
        if b < 0:
            a, b = max(0.0, np.average(x * y, weights=weights) / np.average(x * x, weights=weights)), 0.0
    return NoiseCurve(float(a), float(b), x, y)
