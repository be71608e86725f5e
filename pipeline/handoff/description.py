"""What the model card, the report, the manifest and the ONNX file itself say about a model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.config import Config
from pipeline.data.images import EIGHT_BITS, Levels
from pipeline.denoising.familiarity import Limits
from pipeline.errors import counted
from pipeline.noise import GaussianNoise
from pipeline.scoring.quality import ESTIMATED, PSNR, Quality
from pipeline.training.checkpoint import Checkpoint


def plain(value: float) -> str:
    """A pixel value as text, all its digits: `4095`, `0.1`."""
    return str(int(value)) if value == int(value) else repr(value)


def plain_thousands(value: float) -> str:
    """As `plain`, to be read: `4,095`."""
    return f"{int(value):,}" if value == int(value) else repr(value)


@dataclass(frozen=True)
class Description:
    """The facts about one trained and evaluated model."""

    name: str  # of the hand-off
    config: Config
    run_id: str
    fingerprint: str  # of everything that the hand-off follows from
    checkpoint: Checkpoint
    parameters: int
    dataset: Mapping[str, Any]  # the manifest of the prepared data
    test_images: int
    halo: int  # pixels around a tile of a large image, see `pipeline.denoising.tiling`
    familiar: Limits | None  # what the model removes from its test images; None if that may be structure
    accepted: tuple[float, float]  # an image with values outside this range is not a noisy image
    scores: Mapping[str, Mapping[str, Mapping[str, float]]]  # {label of the noise: {denoiser: {metric: mean}}}
    commit: str | None  # git commit of the source
    levels: Levels = EIGHT_BITS  # the pixel values of the training images that became 1 and 0
    pixel_type: str = "uint8"  # of these pixels: uint8, uint16 or float32

    @property
    def summary(self) -> str:
        """One sentence."""
        noise = self.config.training_noise.description
        return f"Image denoiser: {self.config.model_name} trained on {self.config.dataset_name} with {noise}."

    @property
    def channels(self) -> int:
        """Of the images."""
        return self.checkpoint.channels

    @property
    def license(self) -> str:
        """Of the weights, which depend on the data, and of the data."""
        return f"code: MIT; weights: none of their own, mind that of the data; data: {self.dataset['licence']}"

    @property
    def clipping(self) -> str:
        """What is done to the noisy image before it goes into the model."""
        return "clipped to [0, 1]" if self.config.clip_input else "not clipped"

    @property
    def trained_on_clipped(self) -> bool:
        """Whether the training met clipped images, such as image files are."""
        noise = self.config.training_noise
        return self.config.clip_input or (isinstance(noise, GaussianNoise) and noise.clip.high > 0)

    @property
    def quality(self) -> Quality:
        """With the training noise."""
        return Quality.of(self.scores[self.config.training_noise.label])

    @property
    def levels_text(self) -> str:
        """What the pixels of the training images were, and which of their values became 1 and 0."""
        bits = math.log2(self.levels.white + 1)
        kind = self.pixel_type
        if kind == "uint16" and bits < 16 and bits.is_integer():
            kind = f"{bits:.0f} bits in 16"
        return f"{kind}: {plain_thousands(self.levels.white)} is white, {plain_thousands(self.levels.black)} is black"

    @property
    def _bitmap(self) -> dict[str, str]:
        """What the specification has words for: 8 bits, in gray or RGB."""
        if self.pixel_type != "uint8" or self.levels != EIGHT_BITS or self.channels not in (1, 3):
            return {}
        return {
            "Image.BitmapPixelFormat": "Gray8" if self.channels == 1 else "Rgb8",
            "Image.ColorSpaceGamma": "SRGB",
        }

    @property
    def _quality(self) -> dict[str, str]:
        """The quality with the training noise, of the kind that the test images allow."""
        own, quality = self.scores[self.config.training_noise.label], self.quality
        if quality.metric == PSNR:
            return {
                "test_psnr_db": f"{own['denoised']['psnr']:.4f}",
                "noisy_psnr_db": f"{own['noisy']['psnr']:.4f}",
            }
        if quality.metric == ESTIMATED:
            return {"test_psnr_estimated_db": f"{quality.output:.4f}", "quality": quality.text}
        return {"test_noise_level": f"{quality.output:.6f}", "noisy_noise_level": f"{quality.input:.6f}"}

    def metadata(self) -> dict[str, str]:
        """For the file's `metadata_props`: the keys that the ONNX specification names for images, then our own.

        The same run gives the same values, so that exporting it again gives the same bytes.
        """
        config = self.config
        layout = counted(self.channels, "channel") + (" (RGB)" if self.channels == 3 else "")
        return {
            **self._bitmap,
            "Image.NominalPixelRange": "Normalized_0_1",
            "description": self.summary,
            "task": "image-denoising",
            "input_layout": f"NCHW, {layout}, any height and width",
            "input_range": f"clean pixels in [0, 1], noise added, {self.clipping}",
            "accepted_range": f"{self.accepted[0]:g} {self.accepted[1]:g}",
            "output_range": "[0, 1]",
            "halo": str(self.halo),
            **({"removed_correlation": str(self.familiar)} if self.familiar else {}),
            "clip_input": json.dumps(config.clip_input),
            "model": config.model_name,
            "parameters": str(self.parameters),
            "dataset": config.dataset_name,
            "dataset_sha256": self.dataset["digest"],
            "noise": config.training_noise.spec,
            "white": plain(self.levels.white),
            "black": plain(self.levels.black),
            "pixel_type": self.pixel_type,
            **self._quality,
            "license": self.license,
            "weights_sha256": self.checkpoint.digest,
            "mlflow_run_id": self.run_id,
            "git_commit": self.commit or "unknown",
            "torch_version": torch.__version__,
        }
