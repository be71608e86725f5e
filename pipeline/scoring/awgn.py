"""The protocol by which the literature compares denoisers of photographs: additive white Gaussian noise (AWGN).

Noise of standard deviation 15, 25 and 50 of 255 is added to whole pictures. The noisy picture is neither clipped nor
rounded, the output is clipped to [0, 1] and not rounded. What is reported is the mean over the pictures of the PSNR of
each, over all its pixels and channels, and the mean SSIM beside it. So did Zhang et al. 2017 (DnCNN) and 2018 (FFDNet).

Noise is drawn as for every other score, from the number of a picture. To make that a matter of the pictures alone, they
are put into the order of their digests: other names, another file format or another order change nothing.
"""

from __future__ import annotations

import hashlib

import numpy as np

from pipeline.data.images import Images, Part, take
from pipeline.errors import PipelineError
from pipeline.files import sha256_bytes
from pipeline.noise import Noise, make_noise

SIGMAS = (15, 25, 50)  # of 255
# Stored with the results.
PROTOCOL = "Gaussian noise of the standard deviation in the label, of 255; image i has the i-th lowest SHA-256 of all"


def label_of(sigma: float) -> str:
    """The label of the noise of standard deviation `sigma` of 255."""
    return f"awgn-{sigma:g}"


def noises() -> dict[str, Noise]:
    """The noise of every level, by its label."""
    return {label_of(sigma): make_noise("gaussian", f"{(sigma / 255) ** 2:.9g}") for sigma in SIGMAS}


def ordered(part: Part) -> Part:
    """The clean images, in the order of their digests.

    Raises:
        PipelineError: there are none.
    """
    if part.clean is None:
        raise PipelineError("--protocol awgn adds noise to clean images, and there are only noisy ones")
    return Part(take(part.clean, np.argsort(_digests(part.clean), kind="stable")), levels=part.levels)


def digest_of(part: Part) -> str:
    """The SHA-256 of the clean images, or else of the noisy ones, whatever their names, their order or their format."""
    return sha256_bytes("".join(sorted(_digests(part.images if part.clean is None else part.clean))).encode())


def _digests(images: Images) -> list[str]:
    """Of the pixels of each image, with their type and shape."""
    return [
        hashlib.sha256(f"{image.dtype.name} {image.shape}".encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
        for image in images
    ]
