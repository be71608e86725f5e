"""All drawing. Figures are plain `Figure` objects: no pyplot, so no state and no window system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.metrics import psnr
from pipeline.training import Epoch

# Colours that people with colour blindness can tell apart (Okabe and Ito).
_COLOURS = {"noisy": "#999999", "clipped": "#E69F00", "denoised": "#0072B2", "clean": "#009E73"}

Sample = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Clean, noisy and denoised images, each float32 [N, 1, H, W]."""


def to_pixels(image: torch.Tensor) -> np.ndarray:
    """uint8 [H, W] of an image [1, H, W] on the [0, 1] scale, clipped."""
    return (image[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def image_strip(rows: Sequence[torch.Tensor], zoom: int = 3) -> np.ndarray:
    """Rows of images side by side, uint8 [H, W], enlarged by whole pixels: for MLflow's step slider."""
    gap = 2
    strip = np.vstack(
        [
            np.pad(np.hstack([np.pad(to_pixels(image), gap // 2, constant_values=128) for image in row]), gap // 2)
            for row in rows
        ]
    )
    return strip.repeat(zoom, axis=0).repeat(zoom, axis=1)


def denoising_grid(clean: torch.Tensor, noisy: torch.Tensor, denoised: torch.Tensor, *, variance: float) -> Figure:
    """Noisy, denoised and clean rows, with the PSNR of each noisy (clipped) and denoised image under it."""
    rows = {"noisy": noisy, "denoised": denoised, "clean": clean}
    figure, axes = _image_grid(len(rows), len(clean))
    figure.suptitle(f"Test images, noise of variance {variance:g}. Below each image as shown: PSNR in dB")
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        _image_row(line, name, images, None if name == "clean" else clean)
    return figure


def noise_levels(samples: Mapping[float, Sample], *, trained_at: float) -> Figure:
    """The same images at every noise level: a noisy and a denoised row a level, then the clean images."""
    clean = next(iter(samples.values()))[0]
    figure, axes = _image_grid(2 * len(samples) + 1, len(clean))
    figure.suptitle(
        f"The same test images at every variance of the noise; the model was trained at {trained_at:g}.\n"
        "Below each image as shown: PSNR in dB"
    )
    lines = iter(axes)
    for variance, (_, noisy, denoised) in samples.items():
        _image_row(next(lines), f"noisy, {variance:g}", noisy, clean)
        _image_row(next(lines), "denoised", denoised, clean)
    _image_row(next(lines), "clean", clean, None)
    return figure


def loss_curves(epochs: Sequence[Epoch], best: int, target: str) -> Figure:
    """Training and validation loss by epoch, with the best epoch marked."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    numbers = [epoch.epoch for epoch in epochs]
    axes.plot(numbers, [epoch.train_loss for epoch in epochs], "o-", color=_COLOURS["clipped"], label="training")
    axes.plot(
        numbers, [epoch.validation_loss for epoch in epochs], "o-", color=_COLOURS["denoised"], label="validation"
    )
    axes.axvline(best, color=_COLOURS["clean"], linestyle=":", label=f"best epoch: {best}")
    axes.set(xlabel="epoch", ylabel=f"mean squared error\nagainst the {target} image", yscale="log", title="Loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, len(epochs) + 0.5)
    axes.legend()
    axes.grid(alpha=0.3, which="both")
    return figure


def psnr_by_variance(results: Mapping[float, Mapping[str, Mapping[str, float]]], *, trained_at: float) -> Figure:
    """Mean PSNR on the test set against the variance of the noise, of the model and of its input."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    labels = {"denoised": "model", "clipped": "input, clipped to [0, 1]", "noisy": "input"}
    for name, label in labels.items():
        values = [results[variance][name]["psnr"] for variance in results]
        axes.plot(list(results), values, "o-", color=_COLOURS[name], label=label)
        if name == "denoised":
            for variance, value in zip(results, values, strict=True):
                axes.annotate(f"{value:.1f}", (variance, value), (0, 7), textcoords="offset points", ha="center")
    axes.axvline(trained_at, color=_COLOURS["clean"], linestyle=":", label=f"trained at {trained_at:g}")
    axes.set(xlabel="variance of the noise", ylabel="PSNR in dB, mean over the test images", xscale="log")
    axes.set_xticks(list(results), [f"{variance:g}" for variance in results])
    axes.minorticks_off()
    axes.set_title("Quality at each noise level")
    axes.margins(y=0.12)
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


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
