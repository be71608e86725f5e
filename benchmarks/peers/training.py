"""One training by one peer: `python -m benchmarks.peers.training SIDE DATA EPOCHS SEED`. Prints JSON last.

All train the same network on the same digits with fresh Gaussian noise, as a user of each would write it. A side
imports its own framework only, so that each may live in an environment of its own.
"""

from __future__ import annotations

import inspect
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from pipeline.models import COURSE_PAGE, MODELS, Recipe, batch_norms, build_model

SIGMA, BATCH, LR = 0.1, 64, 0.001
Train = Callable[[nn.Module, np.ndarray, int, int], None]  # a network, uint8 [N, 1, 28, 28], epochs, seed


class Clock:
    """Scores a network eight times in the first epoch and after every other, whatever trains it.

    The time that it takes does not count.
    """

    def __init__(self, model: nn.Module, clean: np.ndarray, noisy: np.ndarray, images: int, epochs: int) -> None:
        self.points: list[dict[str, float]] = []
        self._due = [images * part // 8 for part in range(1, 8)] + [images * epoch for epoch in range(1, epochs + 1)]
        self._model, self._clean, self._noisy = model, torch.from_numpy(clean) / 255, torch.from_numpy(noisy)
        self._seen = 0
        self._last = np.zeros(2)
        self._taken = np.zeros(2)
        model.register_forward_pre_hook(self._before)

    @staticmethod
    def _now() -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time()])

    def _before(self, model: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        if not torch.is_grad_enabled():
            return
        if not self._seen:
            self._last = self._now()  # imports and the reading of data do not count
        if self._seen >= self._due[len(self.points)]:
            self.record()
        self._seen += len(arguments[0])

    def record(self) -> None:
        """Add a point: seconds, CPU seconds, and the mean PSNR in dB over the test digits, in eval mode."""
        self._taken += self._now() - self._last
        training = self._model.training
        self._model.eval()
        with torch.no_grad():
            parts = zip(self._clean.split(500), self._noisy.split(500), strict=True)
            errors = [(self._model(noisy).clamp(0, 1) - clean).square().mean((1, 2, 3)) for clean, noisy in parts]
        self._model.train(training)
        psnr = float((-10 * torch.cat(errors).log10()).mean())
        self.points.append({"images": self._seen, "seconds": self._taken[0], "cpu": self._taken[1], "psnr": psnr})
        self._last = self._now()


def page(model: nn.Module, images: np.ndarray, epochs: int, seed: int) -> None:
    """The loop of the course page, with the clean image as the target."""
    from benchmarks.speed.quality import torchvision_mnist

    loader = DataLoader(torchvision_mnist(images), batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    for _ in range(epochs):
        total = 0.0
        for clean, _labels in loader:
            noisy = clean + SIGMA * torch.randn(clean.shape)
            loss = functional.mse_loss(model(noisy), clean)
            total += loss.item()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def bare(model: nn.Module, images: np.ndarray, epochs: int, seed: int) -> None:
    """As little as a loop can do: tensors in memory."""
    tensors = torch.from_numpy(images) / 255
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    for _ in range(epochs):
        for batch in torch.randperm(len(tensors)).split(BATCH):
            clean = tensors[batch]
            loss = functional.mse_loss(model(clean + SIGMA * torch.randn_like(clean)), clean)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def deepinv(model: nn.Module, images: np.ndarray, epochs: int, seed: int) -> None:
    """deepinv's `Trainer`, which makes its measurements as it goes."""
    import deepinv

    class Denoiser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def forward(self, noisy: torch.Tensor, physics: Any = None, **options: Any) -> torch.Tensor:
            return self.network(noisy)

    denoiser = Denoiser()
    loader: Any = DataLoader(torch.from_numpy(images) / 255, batch_size=BATCH, shuffle=True)  # type: ignore[arg-type]
    deepinv.Trainer(
        model=denoiser,
        physics=deepinv.physics.Denoising(deepinv.physics.GaussianNoise(SIGMA)),
        optimizer=torch.optim.Adam(denoiser.parameters(), lr=LR),
        train_dataloader=loader,
        losses=deepinv.loss.SupLoss(),
        online_measurements=True,
        epochs=epochs,
        device="cpu",
        save_path=None,
        show_progress_bar=False,
        verbose=False,
    ).train()


def lightning(model: nn.Module, images: np.ndarray, epochs: int, seed: int) -> None:
    """A module and a `Trainer` of Lightning."""
    from lightning import LightningModule, Trainer

    class Denoiser(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
            (clean,) = batch
            return functional.mse_loss(self.network(clean + SIGMA * torch.randn_like(clean)), clean)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=LR)

    loader = DataLoader(TensorDataset(torch.from_numpy(images) / 255), batch_size=BATCH, shuffle=True)
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    Trainer(max_epochs=epochs, accelerator="cpu", **options).fit(Denoiser(), loader)


def careamics(model: nn.Module, images: np.ndarray, epochs: int, seed: int) -> None:
    """CAREamics' CARE on arrays, with this network instead of its own.

    Its noisy images are made once, and its patches are powers of two: digits are padded to 32x32, 1.3 times the pixels.
    """
    from careamics import CAREamist
    from careamics.config import create_advanced_care_config

    clean = np.pad(images[:, 0].astype(np.float32) / 255, ((0, 0), (2, 2), (2, 2)))
    noisy = clean + np.random.default_rng(seed).normal(0, SIGMA, clean.shape).astype(np.float32)
    config = create_advanced_care_config(
        experiment_name="digits",
        data_type="array",
        axes="SYX",
        patch_size=[32, 32],
        batch_size=BATCH,
        num_epochs=epochs,
        augmentations=[],
        normalization="none",
        num_workers=0,
        optimizer_params={"lr": LR},
        trainer_params={"accelerator": "cpu"},
    )
    careamist = CAREamist(config, enable_progress_bar=False)
    careamist.model.model, careamist.model.loss_func = model, nn.MSELoss()
    # Left to choose validation patches itself, it takes minutes for each: its search passes over all images.
    few = slice(None, BATCH)
    careamist.train(train_data=noisy, train_data_target=clean, val_data=noisy[few], val_data_target=clean[few])


def ours(model: nn.Module, images: np.ndarray, epochs: int, seed: int) -> None:
    """python -m pipeline train --recipe page"""
    _ours(model, images, epochs, seed, COURSE_PAGE)


def ours_by_default(model: nn.Module, images: np.ndarray, epochs: int, seed: int) -> None:
    """python -m pipeline train"""
    _ours(model, images, 1, seed, MODELS["autoencoder"].fast)


def _ours(model: nn.Module, images: np.ndarray, epochs: int, seed: int, recipe: Recipe) -> None:
    from pipeline.data.batches import WholeImages, validation_batch
    from pipeline.data.images import Part
    from pipeline.noise import make_noise
    from pipeline.training.devices import choose_device
    from pipeline.training.loop import Trainer

    device = choose_device("cpu")
    part = Part(images)
    noise = make_noise("gaussian", str(SIGMA**2))
    Trainer(model, WholeImages(part), validation_batch(part, 0, 1, device), noise, recipe, epochs, seed=seed).run()


SIDES: dict[str, Train] = {
    "the course page's loop": page,
    "bare torch, tensors in memory": bare,
    "Lightning": lightning,
    "deepinv": deepinv,
    "CAREamics": careamics,
    "ours, the same optimizer": ours,
    "ours, the default recipe": ours_by_default,
}


def lines(side: str) -> int:
    """That a user of this side writes to train: without comments and what all sides share."""
    if side.startswith("ours"):
        return 1
    source = inspect.getsource(SIDES[side]).split('"""', 2)[2]
    return sum(bool(line.strip()) for line in source.splitlines())


def main() -> None:
    side, data, epochs, seed = sys.argv[1], np.load(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    torch.manual_seed(seed)
    model = build_model("autoencoder")
    if side != "ours, the default recipe":
        for module in batch_norms(model):
            module.momentum = COURSE_PAGE.bn_momentum
    images = data["train"]
    clock = Clock(model, data["clean"], data["noisy"], len(images), epochs)
    SIDES[side](model, images, epochs, seed)
    clock.record()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"points": clock.points, "memory": memory, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
