"""Colour jitter: what it changes, and how far."""

from __future__ import annotations

import torch

from pipeline.training.augmentation import jitter_colors


def jittered(images: torch.Tensor, strength: float) -> torch.Tensor:
    return jitter_colors(images, strength, torch.Generator().manual_seed(0))


def test_half_of_the_images_are_as_they_were() -> None:
    images = torch.rand((400, 3, 4, 4), generator=torch.Generator().manual_seed(1))
    same = (jittered(images, 1) == images).flatten(1).all(dim=1)
    assert 160 < same.sum() < 240
    assert torch.equal(jittered(images, 0), images)


def test_gains_and_saturation_stay_within_the_strength() -> None:
    """Of images of one dark colour, so that nothing is clipped."""
    color = torch.tensor([0.1, 0.12, 0.15])
    changed = jittered(color[None, :, None, None].expand(4000, 3, 1, 1), 0.5)[:, :, 0, 0]
    changed = changed[(changed - color).abs().sum(dim=1) > 1e-6]
    means = changed.mean(dim=1)  # which the saturation leaves alone
    assert 2**-0.25 * color.mean() < means.min() < 0.9 * color.mean()
    assert 1.1 * color.mean() < means.max() < 2**0.25 * color.mean()
    # Every channel is the strongest one at times.
    assert changed.argmax(dim=1).bincount(minlength=3).min() > 0.2 * len(changed)


def test_nothing_leaves_the_scale() -> None:
    changed = jittered(torch.rand((100, 3, 4, 4), generator=torch.Generator().manual_seed(2)), 3)
    assert changed.min() == 0
    assert changed.max() == 1
