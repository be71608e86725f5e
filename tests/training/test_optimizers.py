"""Optimizers and schedules. SOAP is Adam on vectors, and better than Adam if the curvature is rotated."""

from __future__ import annotations

import copy

import pytest
import torch

from pipeline.training import soap
from pipeline.training.optimizers import OPTIMIZERS, SCHEDULES
from pipeline.training.soap import SOAP


def quadratic(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two positive matrices with eigenvalues from 0.001 to 1 and random eigenvectors."""
    generator = torch.Generator().manual_seed(seed)
    bases = [torch.linalg.qr(torch.randn(12, 12, generator=generator))[0] for _ in range(2)]
    left, right = (basis * torch.logspace(-3, 0, 12) @ basis.T for basis in bases)
    return left, right


def descend(name: str, lr: float, steps: int) -> float:
    """The loss tr(W^T A W B) / 2 after so many steps from a random W."""
    left, right = quadratic()
    weight = torch.nn.Parameter(torch.randn(12, 12, generator=torch.Generator().manual_seed(1)))
    optimizer = OPTIMIZERS[name][0]([weight], lr, 0.9)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        weight.grad = left @ weight.detach() @ right
        optimizer.step()
    final = weight.detach()
    return float((final * (left @ final @ right)).sum() / 2)


def test_soap_beats_adam_on_a_rotated_curvature() -> None:
    rates = (0.01, 0.03, 0.1)
    assert min(descend("soap", lr, 200) for lr in rates) < 0.3 * min(descend("adam", lr, 200) for lr in rates)


def test_soap_is_plain_adam_on_vectors() -> None:
    gradients = torch.randn(20, 7, generator=torch.Generator().manual_seed(0))
    ours, theirs = (torch.nn.Parameter(torch.zeros(7)) for _ in range(2))
    soap, adam = SOAP([ours], 0.1, (0.9, 0.9)), torch.optim.Adam([theirs], 0.1, (0.9, 0.9))
    ours.grad = gradients[0]
    soap.step()  # only initialises the averages
    assert not ours.detach().any()
    for gradient in gradients[1:]:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        soap.step()
        adam.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_soap_starts_from_gradients_that_are_small_and_mostly_zero(seed: int) -> None:
    """As those of a trained network: of some, LAPACK does not find the eigenvectors in 32 bits."""
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.zeros(128, 1152)
    sizes = torch.logspace(-9, -4, 40)[:, None]
    gradient[torch.randperm(128, generator=generator)[:40]] = torch.randn(40, 1152, generator=generator) * sizes
    weight = torch.nn.Parameter(torch.zeros(128, 1152))
    optimizer = SOAP([weight], 0.01, (0.9, 0.9))
    for _ in range(2):
        weight.grad = gradient.clone()
        optimizer.step()
    moved = weight.detach()
    assert torch.isfinite(moved).all()
    assert (moved * gradient).sum() < 0, "not downhill"


def test_soap_leaves_it_to_the_loss_to_say_that_a_gradient_is_not_finite() -> None:
    weight = torch.nn.Parameter(torch.zeros(3, 5))
    optimizer = SOAP([weight], 0.01, (0.9, 0.9))
    for _ in range(2):
        weight.grad = torch.full((3, 5), torch.nan)
        optimizer.step()
    assert weight.isnan().all()


@pytest.mark.parametrize("shape", [(3, 5), (4, 2, 3, 3), (1, 8, 3, 3), (8, 1, 3, 3), (6,), (1,), (2, 30)])
def test_soap_resumes_from_its_state_bit_for_bit(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soap, "_LARGEST_SIDE", 20)  # the last shape has a larger side, without a basis
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(25, *shape, generator=generator)
    weight = torch.nn.Parameter(torch.zeros(shape))
    optimizer = SOAP([weight], 0.01, (0.9, 0.9))
    for step, gradient in enumerate(gradients):
        if step == 13:
            other = torch.nn.Parameter(weight.detach().clone())
            resumed = SOAP([other], 0.01, (0.9, 0.9))
            resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        weight.grad = gradient.clone()
        optimizer.step()
        if step >= 13:
            other.grad = gradient.clone()
            resumed.step()
    assert torch.isfinite(weight).all()
    assert torch.equal(weight, other)


def test_schedules_stay_between_0_and_1() -> None:
    for factor in SCHEDULES.values():
        values = [factor(step / 1000) for step in range(1000)]
        assert 0 < min(values) <= max(values) <= 1
    assert SCHEDULES["linear"](0.999) < 0.01
