"""All figures, as plain matplotlib `Figure` objects: no pyplot, so no global state and no window system."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from pipeline.data.images import to_integers
from pipeline.errors import counted
from pipeline.noise import Clipped, GaussianNoise, Noise
from pipeline.noise.estimation import NoiseCurve
from pipeline.scoring.metrics import psnr
from pipeline.text import shown
from pipeline.training.loop import Epoch, Point
from pipeline.training.objectives import LOSSES, TARGETS

if TYPE_CHECKING:  # `train` draws too, and must not be repeated when these change
    from pipeline.scoring.evaluation import Sample

# Colours that colour-blind people can tell apart (Okabe and Ito).
_COLOURS = {"noisy": "#999999", "clipped": "#E69F00", "denoised": "#0072B2", "clean": "#009E73"}

_CAPTION = "Below each image: its PSNR in dB, clipped as shown"

_HIGHEST = 62.0  # dB that are shown: a clean input has a PSNR of 100
_BARS = 51  # of a histogram: each for five of the values of 8 bits
_SMALL = (4.8, 3.4)  # inches: of figures that are read on a phone, too
PALETTE = (  # after Okabe and Ito, too: the first six are seen on white and on black
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#999999",
    "#7F3C8D",
    "#8B5A2B",
)


def to_pixels(image: torch.Tensor) -> np.ndarray:
    """uint8 [H, W], or [H, W, 3] in colour, from an image [C, H, W] on the [0, 1] scale, which is clipped.

    Of an image with neither 1 nor 3 channels, the first channel is shown.
    """
    pixels = to_integers(image.numpy())
    return pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0]


def image_strip(rows: Sequence[torch.Tensor], zoom: int = 3) -> np.ndarray:
    """Rows of images side by side, uint8 [H, W] or [H, W, 3], enlarged `zoom` times: for MLflow's step slider."""

    def framed(pixels: np.ndarray) -> np.ndarray:
        return np.pad(pixels, ((1, 1), (1, 1), (0, 0))[: pixels.ndim], constant_values=128)

    strip = np.vstack([np.hstack([framed(to_pixels(image)) for image in row]) for row in rows])
    return strip.repeat(zoom, axis=0).repeat(zoom, axis=1)


def denoising_grid(sample: Sample, title: str) -> Figure:
    """Rows of noisy, denoised and clean images, and of what was removed, with the PSNR below each image.

    What was removed should look like the noise, not like the image. Of colours it is the mean over the channels: so
    much enlarged, their differences would outshine the images.
    """
    clean, noisy, denoised = sample
    removed = (noisy - denoised).mean(dim=1, keepdim=True)
    spread = 6 * removed.std().clamp(min=1e-3)  # black at -3 standard deviations, white at 3
    return _image_table(
        _title(title, noisy, clean),
        [
            ("noisy", noisy, clean),
            ("denoised", denoised, clean),
            *_clean_row(clean),
            ("removed", removed / spread + 0.5, None),
        ],
    )


def noise_levels(samples: Mapping[str, Sample], *, trained_on: str) -> Figure:
    """The same images at every noise level: a noisy and a denoised row per level, then the clean images."""
    rows: list[_Row] = []
    for label, (clean, noisy, denoised) in samples.items():
        rows += [(f"noisy {label}", noisy, clean), ("denoised", denoised, clean)]
    title = f"The same test images with every noise; the model was trained on {trained_on}"
    return _image_table(_title(title, noisy, clean, ".\n"), [*rows, *_clean_row(clean)])


def shown_name(name: str) -> str:
    """A name that may be anybody's, for a figure: `$` begins no formula, and what begins with `_` is in the legend."""
    text = shown(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _title(title: str, noisy: torch.Tensor, clean: torch.Tensor | None, end: str = ". ") -> str:
    if noisy.shape[1] not in (1, 3):
        title += f", the first of {noisy.shape[1]} channels"
    return title if clean is None else f"{title}{end}{_CAPTION}"


def _clean_row(clean: torch.Tensor | None) -> list[_Row]:
    return [] if clean is None else [("clean", clean, None)]


def loss_curves(points: Sequence[Point], epochs: Sequence[Epoch], best: int, loss: str, target: str) -> Figure:
    """Training loss at the points of the learning curve and validation loss by epoch, with the best epoch marked."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    epoch_images = epochs[0].images / epochs[0].epoch
    times = [point.images / epoch_images for point in points]
    numbers = [epoch.epoch for epoch in epochs]
    axes.plot(times, [point.loss for point in points], "o-", color=_COLOURS["clipped"], label="training", markersize=4)
    axes.plot(
        numbers, [epoch.validation_loss for epoch in epochs], "o-", color=_COLOURS["denoised"], label="validation"
    )
    axes.axvline(best, color=_COLOURS["clean"], linestyle=":", label=f"best epoch: {best}")
    axes.set(
        xlabel="epoch", ylabel=f"{LOSSES[loss][1]}, against\n" + textwrap.fill(TARGETS[target][1], 40), title="Loss"
    )
    # An estimate of an error may be below 0.
    if loss == "mse" and min(*(point.loss for point in points), *(epoch.validation_loss for epoch in epochs)) > 0:
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0, epochs[-1].epoch * 1.04)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3, which="both")
    return figure


def psnr_curve(curve: Mapping[str, Any], *, trained_on: Noise) -> Figure:
    """Mean PSNR of the model and of its input against the variance of Gaussian noise; the training range is shaded.

    `curve` is that of `pipeline.scoring.evaluation.Evaluation`.
    """
    figure = Figure(figsize=(7.6, 4.8), layout="constrained")
    axes = figure.add_subplot()
    labels = {"denoised": "model", "clipped": "input, clipped to [0, 1]", "noisy": "input"}
    for name, label in labels.items():
        axes.plot(curve["variances"], curve["psnr"][name], "o-", color=_COLOURS[name], label=label, markersize=4)
    noise_axis(axes, curve["variances"])
    for variance, value in zip(curve["variances"], curve["psnr"]["denoised"], strict=True):  # where no line is
        place = axes.get_xaxis_transform()
        axes.text(variance, 1.01, f"{value:.1f}", transform=place, ha="center", color=_COLOURS["denoised"], size=7.5)
    noise = trained_on.noise if isinstance(trained_on, Clipped) else trained_on
    if isinstance(noise, GaussianNoise):
        low, high = noise.variance.low, noise.variance.high
        axes.axvspan(low / 1.1, high * 1.1, color=_COLOURS["clean"], alpha=0.2, label="trained here")
    axes.set_ylim(max(0, axes.get_ylim()[0]), min(axes.get_ylim()[1], _HIGHEST))
    axes.set_ylabel("PSNR in dB, mean over the test images")
    axes.set_title(
        f"Gaussian noise, {counted(curve['images'], 'test image')}; trained on\n{trained_on.description}",
        fontsize=11,
        pad=16,
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def noise_axis(axes: Axes, variances: Sequence[float]) -> None:
    """Make the horizontal axis a logarithmic one of the variance, and linear from 0 to the lowest, if there is a 0."""
    above = [level for level in variances if level > 0] or [1.0]
    if min(variances) > 0:
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=min(above), linscale=0.4)
    first, last = (math.log10(level) for level in (min(above), max(above)))
    decades = (10.0**power for power in range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1))
    ticks = sorted({*decades, max(variances), min(variances)})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("variance of the noise")


def search_history(losses: Sequence[float]) -> Figure:
    """Validation loss of the trials of a search in order, and the lowest so far."""
    figure = Figure(figsize=(7.6, 4), layout="constrained")
    axes = figure.add_subplot()
    trials = range(1, len(losses) + 1)
    axes.plot(trials, losses, "o", color=_COLOURS["denoised"], label="trial")
    axes.step(trials, np.minimum.accumulate(losses), where="post", color=_COLOURS["clipped"], label="best so far")
    axes.set(xlabel="finished trials", ylabel="best validation loss", title="Results of the search")
    if min(losses) > 0:  # minus a PSNR is not
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=9, frameon=False)
    axes.grid(alpha=0.3, which="both")
    return figure


def value_histogram(images: Sequence[np.ndarray]) -> Figure:
    """How often each brightness is, over all pixels of images on the [0, 1] scale."""
    values = np.concatenate([image.ravel() for image in images])
    low, high = min(0.0, float(values.min())), max(1.0, float(values.max()))
    figure = Figure(figsize=_SMALL, layout="constrained")
    axes = figure.add_subplot()
    axes.hist(values, bins=_BARS, range=(low, high), weights=np.full(len(values), 100 / len(values)), color=PALETTE[0])
    axes.set_xlim(low, high)
    axes.set_xlabel("value of the pixel")
    axes.set_ylabel("share of the pixels in %")
    return figure


def noise_by_brightness(curve: NoiseCurve, line: str) -> Figure:
    """The variance of noise at each brightness, and the line that fits, which the legend calls `line`."""
    figure = Figure(figsize=_SMALL, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(curve.brightness, curve.variance, "o", color=PALETTE[0], label="measured")
    ends = np.array([0.0, max(1.0, float(curve.brightness.max()))])
    fitted = curve.a * ends + curve.b
    axes.plot(ends, fitted, color=PALETTE[1], label=line)
    axes.set_xlim(*ends)
    axes.set_ylim(0, 1.15 * max(float(curve.variance.max()), float(fitted.max()), 1e-9))
    axes.set_xlabel("brightness")
    axes.set_ylabel("variance")
    axes.ticklabel_format(axis="y", scilimits=(-3, 3))
    axes.legend(frameon=False)
    return figure


def picture_grid(images: Sequence[np.ndarray], columns: int = 3, titles: Sequence[str] = ()) -> Figure:
    """Images [C, H, W] on the [0, 1] scale, in rows; of those that are neither gray nor colour, the first channel.

    Over them are the titles, by turns.
    """
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(_SMALL[0], _SMALL[0] / columns * rows), layout="constrained")
    for number, image in enumerate(images):
        axes = figure.add_subplot(rows, columns, number + 1)
        shown = image if len(image) == 3 else image[:1]
        axes.imshow(to_pixels(torch.from_numpy(np.array(shown))), cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
        if titles:
            axes.set_title(shown_name(titles[number % len(titles)]), fontsize=9)
    return figure


_Row = tuple[str, torch.Tensor, torch.Tensor | None]
"""Name, images [N, C, H, W], and clean images if the PSNR of each (clipped to [0, 1], as shown) is printed below it."""


def _image_table(title: str, rows: Sequence[_Row]) -> Figure:
    """Rows of images in a single axes: one axes per image would take ten times as long."""
    columns, (height, width) = len(rows[0][1]), rows[0][1].shape[-2:]
    gap, text = 0.06 * width, 0.2 * width  # in pixels, like all lengths below
    below = [text if clean is not None else gap for _, _, clean in rows]
    whole = sum(below) + len(rows) * height
    scale = 1.1 / width  # inches
    margins = 1.25, 0.35 * len(title.splitlines()) + 0.1
    table = columns * (width + gap) * scale, whole * scale
    size = max(margins[0] + table[0], 8.6), table[1] + margins[1]
    figure = Figure(figsize=size)
    figure.suptitle(title, y=1 - 0.1 / size[1], fontsize=12)
    axes = figure.add_axes((margins[0] / size[0], 0, table[0] / size[0], table[1] / size[1]))
    axes.axis("off")
    top = 0.0
    for (name, images, clean), room in zip(rows, below, strict=True):
        values = psnr(images.clamp(0, 1), clean).tolist() if clean is not None else None
        axes.text(-0.1 / scale, top + height / 2, fill(name, 14), ha="right", va="center", fontsize=10)
        for column, image in enumerate(images):
            left = column * (width + gap)
            axes.imshow(to_pixels(image), cmap="gray", vmin=0, vmax=255, extent=(left, left + width, top + height, top))
            if values:
                axes.text(left + width / 2, top + height + 0.1 * room, f"{values[column]:.1f}", ha="center", va="top")
        top += height + room
    axes.set(xlim=(0, columns * (width + gap)), ylim=(whole, 0), aspect="auto")
    return figure
