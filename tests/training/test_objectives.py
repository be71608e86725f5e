"""Targets and losses: what training minimises, with and without clean images."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.config import ESTIMATES, OF_KNOWN_LEVEL
from pipeline.data.batches import Batch, WholeImages, validation_batch
from pipeline.data.images import Levels, Part
from pipeline.models import Recipe, build_model
from pipeline.noise import Noise, make_noise
from pipeline.training.loop import Trainer
from pipeline.training.objectives import LOSSES, TARGETS, Pair, Probed

NOISE = make_noise("gaussian", "0.01")
CPU = torch.device("cpu")


@pytest.fixture
def clean(digits: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(digits[:256, np.newaxis]).float() / 255


def draw(target: str, clean: torch.Tensor, seed: int = 0, noise: Noise = NOISE) -> Pair | Probed:
    return TARGETS[target][0](Batch(clean), noise, torch.Generator().manual_seed(seed))


def pair_of(target: str, clean: torch.Tensor, seed: int = 0) -> Pair:
    pair = draw(target, clean, seed)
    assert isinstance(pair, Pair)
    return pair


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    return torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1].item()


def blurred(images: torch.Tensor) -> torch.Tensor:
    """A denoiser whose divergence is known: every pixel keeps half of itself."""
    kernel = torch.tensor([[0.0, 0.125, 0.0], [0.125, 0.5, 0.125], [0.0, 0.125, 0.0]])
    return functional.conv2d(images, kernel[None, None], padding=1)


def blind(images: torch.Tensor) -> torch.Tensor:
    """What the neighbours say of every pixel."""
    return 2 * blurred(images) - images


def errors(images: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    return (images - clean).square().mean(dim=(1, 2, 3))


def test_targets(clean: torch.Tensor) -> None:
    assert torch.equal(pair_of("clean", clean).target, clean)
    same = pair_of("noisy", clean)
    assert torch.equal(same.target, same.noisy)
    two = pair_of("noisy2noisy", clean)
    first, second = two.noisy - clean, two.target - clean
    assert first.var().item() == pytest.approx(0.01, rel=0.03)
    assert second.var().item() == pytest.approx(0.01, rel=0.03)
    assert abs(correlation(first, second)) < 0.01  # drawn independently


def test_recorrupted_images_are_two_with_independent_noise(clean: torch.Tensor) -> None:
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(5))
    recorded = make_noise("recorded:sigma=0.1")
    pair = TARGETS["r2r"][0](Batch(None, noisy), recorded, torch.Generator().manual_seed(0))
    assert isinstance(pair, Pair)
    first, second = pair.noisy - clean, pair.target - clean
    assert first.var().item() == pytest.approx(0.01 * 1.25, rel=0.02)
    assert second.var().item() == pytest.approx(0.01 * 5, rel=0.02)
    assert abs(correlation(first, second)) < 0.01
    assert correlation(first, noisy - clean) > 0.8  # both are made of the one noisy image


@pytest.mark.parametrize("seed", [0, 1])
def test_steins_estimate_is_the_error_to_the_clean_image(clean: torch.Tensor, seed: int) -> None:
    pair = draw("sure", clean, seed)
    assert isinstance(pair, Probed)
    estimate = pair.errors(blurred(pair.input))
    true = errors(blurred(pair.noisy), clean)
    assert true.mean() > 0.005
    assert estimate.mean().item() == pytest.approx(true.mean().item(), rel=0.05)
    # Without the divergence it is far away.
    assert abs(errors(blurred(pair.noisy), pair.noisy).mean() - 0.01 - true.mean()) > 0.5 * true.mean()
    # The network that changes nothing has the whole noise, and one that gives a constant has that constant's error.
    assert pair.errors(pair.input).mean().item() == pytest.approx(0.01, rel=0.05)
    assert pair.errors(torch.zeros_like(pair.input)).mean().item() == pytest.approx(
        clean.square().mean().item(), rel=0.02
    )


def test_without_a_level_the_squared_divergence_is_a_penalty(clean: torch.Tensor) -> None:
    pair = draw("self", clean)
    assert isinstance(pair, Probed)
    assert pair.variances.mean().item() == pytest.approx(0.013, rel=0.05)  # a rough guess of 0.01
    penalty = 10 * pair.variances.mean().item()

    def error(change: Callable[[torch.Tensor], torch.Tensor]) -> float:
        return pair.errors(change(pair.input)).mean().item()

    def distance(change: Callable[[torch.Tensor], torch.Tensor]) -> float:
        return errors(change(pair.noisy), pair.noisy).mean().item()

    # What keeps half of every pixel has a divergence of a half, and what leaves out the pixel itself has none.
    assert error(blurred) == pytest.approx(distance(blurred) + penalty / 4, rel=0.02)
    assert error(blind) == pytest.approx(distance(blind), rel=0.02)
    assert error(lambda images: images) == pytest.approx(penalty, rel=0.02)

    # The gradient is that of the penalty on the mean divergence.
    scale = torch.tensor(0.8, requires_grad=True)
    pair.errors(scale * pair.input).mean().backward()  # distance (1 - scale)^2 |y|^2, divergence scale
    assert scale.grad is not None
    expected = -2 * 0.2 * pair.noisy.square().mean().item() + penalty * 2 * 0.8
    assert scale.grad.item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("target", TARGETS)
def test_the_shares_of_several_processes_are_the_whole(target: str, clean: torch.Tensor) -> None:
    whole = draw(target, clean)
    parts = [whole.part(slice(0, 100)), whole.part(slice(100, 256))]
    assert [len(part) for part in parts] == [100, 156]
    assert torch.equal(whole.part(slice(0, len(whole))).input, whole.input)
    if target == "self":  # its penalty is that of the mean divergence of a share
        mean = torch.cat([part.errors(blurred(part.input)) for part in parts]).mean()
        assert mean.item() == pytest.approx(whole.errors(blurred(whole.input)).mean().item(), rel=1e-3)
    else:
        together = torch.cat([part.errors(blurred(part.input)) for part in parts])
        torch.testing.assert_close(together, whole.errors(blurred(whole.input)), rtol=1e-5, atol=1e-7)
    empty = whole.part(slice(0, 0))
    assert (len(empty), len(empty.input)) == (0, 0)


def test_losses_are_what_they_are_called() -> None:
    errors = torch.tensor([1e-2, 1e-4])
    assert LOSSES["mse"][0](errors).item() == pytest.approx(0.00505)
    assert LOSSES["psnr"][0](errors).item() == pytest.approx(-30, abs=1e-3)
    assert torch.isfinite(LOSSES["psnr"][0](torch.zeros(2)))


def test_the_lists_of_targets_name_targets() -> None:
    assert {*OF_KNOWN_LEVEL, *ESTIMATES} < set(TARGETS)


@pytest.fixture(scope="module")
def noisy(digits: np.ndarray) -> np.ndarray:
    """One noisy capture each, which are all that there is: float32 [2200, 1, 28, 28]."""
    drawn = np.random.default_rng(0).normal(0, 0.1, (2200, 1, 28, 28))
    return (digits[-2200:, np.newaxis] / 255 + drawn).astype(np.float32)


def trainer_of(target: str, noisy: np.ndarray, epochs: int = 3) -> Trainer:
    part = Part(None, noisy, np.arange(len(noisy)), Levels(1.0, 0.0))
    torch.manual_seed(0)
    recipe = Recipe(batch_size=32, lr=0.004, loss="mse", precision="float32")
    model = build_model("resunet", "s")
    batches, validation = WholeImages(part[:2000]), validation_batch(part[2000:2100], 0, 100, CPU)
    return Trainer(model, batches, validation, make_noise("recorded:sigma=0.1"), recipe, epochs, target=target)


@pytest.mark.parametrize(("target", "gain"), [("sure", 5), ("r2r", 5), ("self", 4)])
def test_a_model_learns_to_denoise_from_single_noisy_images(
    target: str, gain: float, digits: np.ndarray, noisy: np.ndarray
) -> None:
    trainer = trainer_of(target, noisy)
    model = trainer.model
    model.load_state_dict(trainer.run().best.state_dict)
    model.eval()
    clean, test = torch.from_numpy(digits[-100:, np.newaxis]).float() / 255, torch.from_numpy(noisy[-100:])
    with torch.no_grad():
        found = [-10 * errors(images, clean).log10().mean().item() for images in (model(test), test.clamp(0, 1))]
    assert found[0] > found[1] + gain


@pytest.mark.parametrize("target", ["sure", "r2r", "self"])
def test_a_resumed_training_is_the_uninterrupted_one(target: str, noisy: np.ndarray) -> None:
    def steps(trainer: Trainer, count: int) -> None:
        trainer.model.train()
        batches = trainer._remaining_batches()
        for _ in range(count):
            trainer.step(next(batches))

    one, other = trainer_of(target, noisy), trainer_of(target, noisy)
    steps(one, 3)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    steps(one, 2)
    steps(other, 2)
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name])
