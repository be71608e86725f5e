"""Changes of clean training images, so that a network meets more than the pictures that there are."""

from __future__ import annotations

import torch


def jitter_colors(images: torch.Tensor, strength: float, generator: torch.Generator) -> torch.Tensor:
    """Every second image, on average, in other colours.

    The channels of such an image are put in a random order, each is multiplied by a gain, and the saturation is: the
    factors are 2^u, with u uniform in [-strength/2, strength/2] for a gain and in [-strength, strength] for the
    saturation, the distance of a pixel from its gray value (the mean of its channels).

    Args:
        images: float32 [N, 3, H, W] on the [0, 1] scale.
        strength: see above; 0 changes nothing.
        generator: of the random numbers, on the device of the images.

    Returns:
        As `images`, clipped to [0, 1]. What was not chosen is unchanged.
    """
    if not strength:
        return images
    draws = torch.rand((len(images), 8), generator=generator, device=images.device)
    order = draws[:, :3].argsort(dim=1)
    powers = (2 * draws[:, 3:7] - 1) * strength
    gains, saturations = torch.exp2(powers[:, :3] / 2)[..., None, None], torch.exp2(powers[:, 3:, None, None])
    changed = images.gather(1, order[..., None, None].expand_as(images)) * gains
    gray = changed.mean(dim=1, keepdim=True)
    changed = (gray + saturations * (changed - gray)).clamp(0, 1)
    return torch.where(draws[:, 7, None, None, None] < 0.5, changed, images)
