"""Targets and losses: what training minimises, with and without clean images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.data.batches import WholeImages
from pipeline.models import Recipe, build_model
from pipeline.noise import make_noise
from pipeline.scoring.metrics import METRICS
from pipeline.scoring.score import clipped, model_denoiser, score
from pipeline.training.loop import Trainer
from pipeline.training.objectives import LOSSES, TARGETS, Pair, image_errors

NOISE = make_noise("gaussian", "0.01")


@pytest.fixture
def clean(digits: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(digits[:64, np.newaxis]).float() / 255


def draw(target: str, clean: torch.Tensor, seed: int = 0) -> Pair:
    return TARGETS[target][0](clean, NOISE, torch.Generator().manual_seed(seed))


def test_targets(clean: torch.Tensor) -> None:
    assert torch.equal(draw("clean", clean).target, clean)
    same = draw("noisy", clean)
    assert torch.equal(same.target, same.noisy)
    two = draw("noisy2noisy", clean)
    first, second = (two.noisy - clean).flatten(), (two.target - clean).flatten()
    assert first.var().item() == pytest.approx(0.01, rel=0.03)
    assert second.var().item() == pytest.approx(0.01, rel=0.03)
    assert torch.corrcoef(torch.stack([first, second]))[0, 1].abs() < 0.02  # drawn independently


def test_noise2void_hides_the_pixels_that_it_asks_for(clean: torch.Tensor) -> None:
    for seed in range(5):
        pair = draw("self", clean, seed)
        assert pair.weight is not None
        hidden = pair.weight.bool()
        assert hidden.float().mean().item() == pytest.approx(1 / 16, rel=0.1)
        assert torch.equal(pair.noisy[~hidden], pair.target[~hidden])
        assert (pair.noisy[hidden] != pair.target[hidden]).all()  # a pixel is never replaced by itself
        changed = pair.noisy[hidden]
        assert torch.isin(changed, pair.target).all()  # but by another pixel


def test_the_loss_covers_the_hidden_pixels_only(clean: torch.Tensor) -> None:
    pair = draw("self", clean)
    assert pair.weight is not None
    output = pair.target + 3 * (1 - pair.weight)  # wrong wherever it does not count
    assert image_errors(output, pair).max() == 0
    assert image_errors(pair.target + 0.5, pair).tolist() == pytest.approx([0.25] * len(clean), rel=1e-5)


def test_losses_are_what_they_are_called(clean: torch.Tensor) -> None:
    errors = torch.tensor([1e-2, 1e-4])
    assert LOSSES["mse"][0](errors).item() == pytest.approx(0.00505)
    assert LOSSES["psnr"][0](errors).item() == pytest.approx(-30, abs=1e-3)
    assert torch.isfinite(LOSSES["psnr"][0](torch.zeros(2)))


@pytest.mark.parametrize(("target", "gain"), [("noisy2noisy", 5), ("self", 3)])
def test_a_model_learns_to_denoise_from_noisy_images_alone(target: str, gain: float, digits: np.ndarray) -> None:
    # Strong noise: if it were weak, the hidden pixel itself would be a better guess than one from its surroundings.
    noise = make_noise("gaussian", "0.1")
    torch.manual_seed(0)
    images = torch.from_numpy(digits[:2000, np.newaxis])
    recipe = Recipe(epochs=3, batch_size=32, lr=0.004, loss="mse", precision="float32")
    model = build_model("resunet", "s")
    trained = Trainer(model, WholeImages(images), images[:10], noise, recipe, target=target).run()
    model.load_state_dict(trained.best.state_dict)
    denoisers = {"input": clipped, "model": model_denoiser(model, torch.device("cpu"))}
    scores = score(digits[-200:, np.newaxis], noise, denoisers, METRICS)
    assert scores["model"]["psnr"].mean() > scores["input"]["psnr"].mean() + gain
