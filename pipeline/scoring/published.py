"""What the literature reports on its test sets, to stand beside a score. Adding a set is an entry in `KNOWN_SETS`.

A set is known by the digest of its pixels (`pipeline.scoring.awgn.digest_of`). The pictures are not part of the
project, as most of them have no licence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.scoring.awgn import SIGMAS, label_of


@dataclass(frozen=True)
class Published:
    """A row of somebody's table."""

    method: str
    psnr: Mapping[str, float]  # mean over the images, in dB, by label of the noise
    source: str


@dataclass(frozen=True)
class KnownSet:
    """A set of images that others have scored denoisers on."""

    name: str
    images: str  # what they are
    rows: tuple[Published, ...]


_DNCNN = "Zhang et al. 2017 (DnCNN)"
_FFDNET = "Zhang et al. 2018 (FFDNet)"
_BIAS_FREE = "Mohan et al. 2020"
_DPIR = "Zhang et al. 2021 (DPIR)"
_XFORMER = "Zhang et al. 2023 (Xformer)"
# A method that has several models, or an input, for the levels is "told the level"; one model without is "blind".
_BM3D, _CBM3D = "BM3D, told the level", "CBM3D, told the level"
_DNCNN_S, _FFDNET_TOLD, _DRUNET_TOLD = "DnCNN, one model per level", "FFDNet, told the level", "DRUNet, told the level"


def _awgn(method: str, *psnr: float, source: str) -> Published:
    """A row for the levels of `pipeline.scoring.awgn`, in their order."""
    return Published(method, {label_of(sigma): value for sigma, value in zip(SIGMAS, psnr, strict=True)}, source)


# By digest.
KNOWN_SETS: dict[str, KnownSet] = {
    "8f09ab29b98fe7e1b6ad61871fc40afacb20ffd9d9ff5f4c3ea2f9b6a1851993": KnownSet(
        "Set12",
        "12 gray pictures",
        (
            _awgn(_BM3D, 32.37, 29.97, 26.72, source=_DNCNN),
            _awgn(_DNCNN_S, 32.86, 30.44, 27.18, source=_DNCNN),
            _awgn(_FFDNET_TOLD, 32.75, 30.43, 27.32, source=_FFDNET),
            _awgn(_DRUNET_TOLD, 33.25, 30.94, 27.90, source=_DPIR),
        ),
    ),
    "2e601fde4ae959027b2246eb7b9e3c424e7742c144cc4eac92a0d4787585779e": KnownSet(
        "BSD68",
        "68 gray photographs",
        (
            _awgn(_BM3D, 31.07, 28.57, 25.62, source=_DNCNN),
            _awgn("DnCNN-B, blind", 31.61, 29.16, 26.23, source=_DNCNN),
            _awgn(_DNCNN_S, 31.73, 29.23, 26.23, source=_DNCNN),
            _awgn(_FFDNET_TOLD, 31.63, 29.19, 26.29, source=_FFDNET),
            _awgn("BF-UNet, blind", 31.38, 28.99, 26.14, source=_BIAS_FREE),
            _awgn(_DRUNET_TOLD, 31.91, 29.48, 26.59, source=_DPIR),
        ),
    ),
    "ee609dc67f81f9220d72299d0e543e3cbb1e5e254df8cce200ce6775725949ae": KnownSet(
        "CBSD68",
        "68 colour photographs",
        (
            _awgn(_CBM3D, 33.52, 30.71, 27.38, source=_FFDNET),
            _awgn(_FFDNET_TOLD, 33.87, 31.21, 27.96, source=_FFDNET),
            _awgn(_DRUNET_TOLD, 34.30, 31.69, 28.51, source=_DPIR),
        ),
    ),
    "a7512ded7d2e53e25c041b697d58e905da7a9d4fd13e0c59d32b9dce327facf1": KnownSet(
        "Kodak24",
        "24 colour photographs, 500x500 crops",
        (
            _awgn(_CBM3D, 34.28, 31.68, 28.46, source=_FFDNET),
            _awgn(_DNCNN_S, 34.60, 32.14, 28.95, source=_XFORMER),
            _awgn(_FFDNET_TOLD, 34.63, 32.13, 28.98, source=_FFDNET),
            _awgn(_DRUNET_TOLD, 35.31, 32.89, 29.86, source=_XFORMER),
        ),
    ),
    "a7ef3567ef6d9785fd091eb0596c11649769b6e2db62d1eebe8def32d74d1608": KnownSet(
        "McMaster",
        "18 colour photographs, 500x500 crops",
        (
            _awgn(_CBM3D, 34.06, 31.66, 28.51, source=_FFDNET),
            _awgn(_FFDNET_TOLD, 34.66, 32.35, 29.18, source=_FFDNET),
        ),
    ),
}


def describe_known(digest: str, ours: Mapping[str, float]) -> list[str]:
    """Lines with what is published on the set of this digest, if it is known.

    Args:
        digest: of the images.
        ours: mean PSNR in dB of the model that was scored, by label of the noise; a line that lacks one is left out.
    """
    known = KNOWN_SETS.get(digest)
    rows = [row for row in known.rows if set(ours) <= set(row.psnr)] if known and ours else []
    if known is None or not rows:
        return []
    ours_too = Published("this model", ours, "")
    return [
        f"these are the {known.images} of {known.name}; published, and scored here (PSNR in dB at {', '.join(ours)}):",
        *(
            f"{'  '.join(f'{row.psnr[label]:.2f}' for label in ours)}  {row.method}{row.source and f': {row.source}'}"
            for row in (*rows, ours_too)
        ),
    ]
