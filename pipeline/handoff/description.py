"""What the model card, the report, the manifest and the ONNX file itself say about a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.config import Config
from pipeline.noise import GaussianNoise
from pipeline.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Description:
    """The facts about one trained and evaluated model."""

    config: Config
    run_id: str
    fingerprint: str  # of everything that the hand-off follows from
    checkpoint: Checkpoint
    parameters: int
    dataset: Mapping[str, Any]  # the manifest of the prepared data
    test_images: int
    halo: int  # pixels around a tile of a large image, see `pipeline.denoising.tiling`
    accepted: tuple[float, float]  # an image with values outside this range is not a noisy image
    scores: Mapping[str, Mapping[str, Mapping[str, float]]]  # {label of the noise: {denoiser: {metric: mean}}}
    commit: str | None  # git commit of the source

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
    def clipping(self) -> str:
        """What is done to the noisy image before it goes into the model."""
        return "clipped to [0, 1]" if self.config.clip_input else "not clipped"

    @property
    def trained_on_clipped(self) -> bool:
        """Whether the training met clipped images, such as image files are."""
        noise = self.config.training_noise
        return self.config.clip_input or (isinstance(noise, GaussianNoise) and noise.clip.high > 0)

    def metadata(self) -> dict[str, str]:
        """For the file's `metadata_props`: the keys that the ONNX specification names for images, then our own.

        The same run gives the same values, so that exporting it again gives the same bytes.
        """
        config = self.config
        own = self.scores[config.training_noise.label]
        gray = self.channels == 1
        layout = "1 channel" if gray else f"{self.channels} channels" + (" (RGB)" if self.channels == 3 else "")
        return {
            "Image.BitmapPixelFormat": "Gray8" if gray else "Rgb8",
            "Image.ColorSpaceGamma": "SRGB",
            "Image.NominalPixelRange": "Normalized_0_1",
            "description": self.summary,
            "task": "image-denoising",
            "input_layout": f"NCHW, {layout}, any height and width",
            "input_range": f"clean pixels in [0, 1], noise added, {self.clipping}",
            "accepted_range": f"{self.accepted[0]:g} {self.accepted[1]:g}",
            "output_range": "[0, 1]",
            "halo": str(self.halo),
            "clip_input": json.dumps(config.clip_input),
            "model": config.model_name,
            "parameters": str(self.parameters),
            "dataset": config.dataset_name,
            "dataset_sha256": self.dataset["digest"],
            "noise": config.training_noise.spec,
            "test_psnr_db": f"{own['denoised']['psnr']:.4f}",
            "noisy_psnr_db": f"{own['noisy']['psnr']:.4f}",
            "weights_sha256": self.checkpoint.digest,
            "mlflow_run_id": self.run_id,
            "git_commit": self.commit or "unknown",
            "torch_version": torch.__version__,
        }
