"""What the targets reach where there is one noisy image of each scene: `python benchmarks/targets.py`.

Each trains the small residual U-Net on one fixed noisy copy of 8,000 digits, unclipped, for two epochs; the PSNR is the
mean over 2,000 validation digits. The noise level is estimated from the noisy images.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import torch

from pipeline.config import ESTIMATES
from pipeline.data.batches import WholeImages, validation_batch
from pipeline.data.images import Levels, Part
from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.models import MODELS, build_model
from pipeline.noise import make_noise
from pipeline.noise.estimation import noise_sigma
from pipeline.training.devices import choose_device
from pipeline.training.loop import Trainer

TRAINING, VALIDATION = 8_000, 2_000  # images
RECIPE = replace(MODELS["resunet"].fast, batch_size=64)
EPOCHS = 2


def psnr(images: torch.Tensor, clean: torch.Tensor) -> float:
    return float(-10 * (images - clean).square().mean(dim=(1, 2, 3)).log10().mean())


def denoised(target: str, noisy: np.ndarray, clean: np.ndarray) -> torch.Tensor:
    """The validation images, denoised by a model that was trained on the others."""
    part = Part(clean if target == "clean" else None, noisy, np.arange(len(noisy)), Levels(1.0))
    noise = make_noise(f"recorded:sigma={noise_sigma(noisy[:TRAINING:8]):.4g}")
    recipe = replace(RECIPE, loss="mse", precision="float32") if target in ESTIMATES else RECIPE
    batches = WholeImages(part[:TRAINING])
    validation = validation_batch(part[TRAINING:], 0, VALIDATION, torch.device("cpu"))
    torch.manual_seed(0)
    trainer = Trainer(build_model("resunet", "s"), batches, validation, noise, recipe, EPOCHS, target=target)
    trainer.model.load_state_dict(trainer.run().best.state_dict)
    trainer.model.eval()
    with torch.no_grad():
        return torch.cat([trainer.model(images) for images in torch.from_numpy(noisy[TRAINING:]).split(500)])


def main(targets: list[str]) -> None:
    choose_device("cpu")
    images = BundledMNIST().images()[0]
    assert isinstance(images, np.ndarray)
    clean = np.concatenate([images[:TRAINING], images[48_000:][:VALIDATION]]).astype(np.float32) / 255
    noisy = (clean + np.random.default_rng(1).normal(0, 0.1, clean.shape)).astype(np.float32)
    shown = torch.from_numpy(clean[TRAINING:])
    print(f"| clipped input | {psnr(torch.from_numpy(noisy[TRAINING:]).clamp(0, 1), shown):.2f} |")
    for target in targets:
        print(f"| `{target}` | {psnr(denoised(target, noisy, clean), shown):.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["clean", "r2r", "sure", "self"])
