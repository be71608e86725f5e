"""All drawing. Figures are plain `Figure` objects: no pyplot, so no state and no window system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.metrics import psnr
from pipeline.noise import Clipped, GaussianNoise, Noise
from pipeline.objectives import LOSSES, TARGETS
from pipeline.training import Epoch, Point

# Colours that people with colour blindness can tell apart (Okabe and Ito).
_COLOURS = {"noisy": "#999999", "clipped": "#E69F00", "denoised": "#0072B2", "clean": "#009E73"}

_PALETTE = (
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

Sample = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Clean, noisy and denoised images, each float32 [N, C, H, W]."""


def to_pixels(image: torch.Tensor) -> np.ndarray:
    """uint8 [H, W], or [H, W, 3] for colour, of an image [C, H, W] on the [0, 1] scale, clipped."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


def image_strip(rows: Sequence[torch.Tensor], zoom: int = 3) -> np.ndarray:
    """Rows of images side by side, uint8 [H, W] or [H, W, 3], enlarged by whole pixels: for MLflow's step slider."""

    def framed(pixels: np.ndarray) -> np.ndarray:
        return np.pad(pixels, ((1, 1), (1, 1), (0, 0))[: pixels.ndim], constant_values=128)

    strip = np.vstack([np.hstack([framed(to_pixels(image)) for image in row]) for row in rows])
    return strip.repeat(zoom, axis=0).repeat(zoom, axis=1)


def denoising_grid(sample: Sample, title: str) -> Figure:
    """Noisy, denoised and clean rows, what was removed, and the PSNR of each noisy (clipped) and denoised image.

    What was removed should look like the noise, not like the image.
    """
    clean, noisy, denoised = sample
    removed = noisy - denoised
    spread = 6 * removed.std().clamp(min=1e-3)  # black at -3 standard deviations, white at 3
    rows = {"noisy": noisy, "denoised": denoised, "clean": clean, "removed": removed / spread + 0.5}
    figure, axes = _image_grid(len(rows), len(clean))
    figure.suptitle(f"{title}. Below each image as shown: PSNR in dB")
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        _image_row(line, name, images, clean if name in ("noisy", "denoised") else None)
    return figure


def noise_levels(samples: Mapping[str, Sample], *, trained_on: str) -> Figure:
    """The same images at every noise level: a noisy and a denoised row a level, then the clean images."""
    clean = next(iter(samples.values()))[0]
    figure, axes = _image_grid(2 * len(samples) + 1, len(clean))
    figure.suptitle(
        f"The same test images with every noise; the model was trained on {trained_on}.\n"
        "Below each image as shown: PSNR in dB"
    )
    lines = iter(axes)
    for label, (_, noisy, denoised) in samples.items():
        _image_row(next(lines), f"noisy, {label}", noisy, clean)
        _image_row(next(lines), "denoised", denoised, clean)
    _image_row(next(lines), "clean", clean, None)
    return figure


def loss_curves(points: Sequence[Point], epochs: Sequence[Epoch], best: int, loss: str, target: str) -> Figure:
    """Training loss at the points of the learning curve and validation loss by epoch, with the best epoch marked."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    epoch_images = epochs[0].images
    times = [point.images / epoch_images for point in points]
    numbers = [epoch.epoch for epoch in epochs]
    axes.plot(times, [point.loss for point in points], "o-", color=_COLOURS["clipped"], label="training", markersize=4)
    axes.plot(
        numbers, [epoch.validation_loss for epoch in epochs], "o-", color=_COLOURS["denoised"], label="validation"
    )
    axes.axvline(best, color=_COLOURS["clean"], linestyle=":", label=f"best epoch: {best}")
    axes.set(xlabel="epoch", ylabel=f"{LOSSES[loss][1]},\nagainst {TARGETS[target][1]}", title="Loss")
    if loss == "mse":
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0, len(epochs) * 1.04)
    axes.legend()
    axes.grid(alpha=0.3, which="both")
    return figure


def psnr_curve(curve: Mapping[str, Any], *, trained_on: Noise) -> Figure:
    """Mean PSNR against the variance of Gaussian noise, of the model and of its input; the training range shaded.

    `curve` is what `evaluate` stores: the number of images, the variances, and the PSNR of every denoiser.
    """
    lines = {
        label: (curve["psnr"][name], _COLOURS[name])
        for name, label in {"denoised": "model", "clipped": "input, clipped to [0, 1]", "noisy": "input"}.items()
    }
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    _psnr_lines(axes, curve["variances"], lines, mark=("model",))
    noise = trained_on.noise if isinstance(trained_on, Clipped) else trained_on
    if isinstance(noise, GaussianNoise):
        low, high = (_place(level, curve["variances"]) for level in (noise.variance.low, noise.variance.high))
        axes.axvspan(low - 0.06, high + 0.06, color=_COLOURS["clean"], alpha=0.2, label="trained here")
    axes.set_title(
        f"Gaussian noise, {curve['images']:,} test images; trained on\n{trained_on.description}", fontsize=11
    )
    axes.legend()
    return figure


def psnr_comparison(variances: Sequence[float], psnr: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Mean PSNR of several denoisers against the variance of the noise: `{denoiser: PSNR at each variance}`."""
    figure = Figure(figsize=(7.6, 5), layout="constrained")
    axes = figure.add_subplot()
    lines = {name: (values, _PALETTE[index % len(_PALETTE)]) for index, (name, values) in enumerate(psnr.items())}
    _psnr_lines(axes, variances, lines)
    axes.set_title(title, fontsize=11)
    axes.legend(fontsize=9)
    return figure


def _psnr_lines(
    axes: Axes,
    variances: Sequence[float],
    lines: Mapping[str, tuple[Sequence[float], str]],
    mark: Sequence[str] = (),
) -> None:
    # One step along the axis for each level: neither a linear nor a logarithmic axis shows 0 and 0.0001 and 0.3.
    places = range(len(variances))
    for label, (values, colour) in lines.items():
        axes.plot(places, values, "o-", color=colour, label=label, markersize=4)
        if label in mark:
            for place, value in zip(places, values, strict=True):
                axes.annotate(f"{value:.1f}", (place, value), (0, 6), textcoords="offset points", ha="center", size=8)
    axes.set(xlabel="variance of the noise", ylabel="PSNR in dB, mean over the test images")
    axes.set_xticks(list(places), [f"{variance:g}" for variance in variances])
    axes.set_ylim(max(0, axes.get_ylim()[0]), min(axes.get_ylim()[1], 62))  # a clean input has no finite PSNR
    axes.margins(y=0.12)
    axes.grid(alpha=0.3)


def _place(variance: float, variances: Sequence[float]) -> float:
    """Where a variance lies between those of the axis, one step each."""
    return float(np.interp(variance**0.5, [level**0.5 for level in variances], range(len(variances))))


def _image_grid(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(1.15 * columns + 1.2, 1.3 * rows + 0.5), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _image_row(axes: Sequence[Axes], name: str, images: torch.Tensor, clean: torch.Tensor | None) -> None:
    """Draw a row of images; with `clean`, the PSNR of each one (clipped to [0, 1], as shown) under it."""
    values = psnr(images.clamp(0, 1), clean).tolist() if clean is not None else [None] * len(images)
    for ax, image, value in zip(axes, images, values, strict=True):
        ax.imshow(to_pixels(image), cmap="gray", vmin=0, vmax=255)
        ax.set(xticks=[], yticks=[])
        if value is not None:
            ax.set_xlabel(f"{value:.1f}", fontsize=9, labelpad=2)
    axes[0].set_ylabel(name, fontsize=10)
