"""SOAP: Adam, carried out in a basis in which the gradient's entries are nearly uncorrelated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

_EPSILON = 1e-8  # as in Adam
_RENEW_EVERY = 10  # steps; every 20 lost 0.3 dB in a short training, every 5 gained nothing
_LARGEST_SIDE = 1024  # of a matrix that gets eigenvectors: their cost grows with its cube

State = dict[str, Any]


class SOAP:
    """SOAP (Vyas et al. 2024, "SOAP: Improving and Stabilizing Shampoo using Adam", algorithm 3), without weight decay.

    A weight [n, ...] is treated as a matrix [n, rest]. Let L and R be the eigenvectors of the averages of G G^T and of
    G^T G over the gradients G. Adam runs on L^T G R, and its step is rotated back. Every `_RENEW_EVERY` steps, one step
    of power iteration updates the eigenvectors. Weights with one dimension get plain Adam. The first step only
    initialises the averages.

    Not a subclass of `torch.optim.Optimizer`, because creating one imports the compiler, which takes a second.

    Args:
        parameters: float32; every one has a gradient at every step.
        lr: learning rate; about the same as for Adam.
        betas: decay of the average of the gradient, and decay of the averages of its square, of G G^T and of G^T G.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], lr: float, betas: tuple[float, float]) -> None:
        self.param_groups: list[dict[str, Any]] = [{"lr": lr, "betas": betas}]
        self._weights: list[torch.Tensor] = list(parameters)
        self._states: list[State] = []  # of each weight

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters by their gradients."""
        (group,) = self.param_groups
        gradients = [_as_matrix(weight) for weight in self._weights]
        if self._states:
            _step(self._weights, gradients, self._states, group["lr"], *group["betas"])
        else:
            self._states = [_start(gradient) for gradient in gradients]

    def state_dict(self) -> dict[str, Any]:
        """Everything besides the parameters that the next steps depend on."""
        return {"states": self._states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned, on the device of the parameters."""
        self._states = [
            {
                name: value.to(weight.device) if isinstance(value, torch.Tensor) else value
                for name, value in state.items()
            }
            for weight, state in zip(self._weights, state_dict["states"], strict=True)
        ]


def _as_matrix(weight: torch.Tensor) -> torch.Tensor:
    assert weight.grad is not None
    return weight.grad.flatten(1) if weight.dim() > 1 else weight.grad


def _step(
    weights: list[torch.Tensor],
    gradients: list[torch.Tensor],
    states: list[State],
    lr: float,
    beta1: float,
    beta2: float,
) -> None:
    # One call for all weights wherever possible: the weights are small, so the cost is in the number of calls.
    rotated = [_rotate(gradient, state) for gradient, state in zip(gradients, states, strict=True)]
    means, squares = [state["mean"] for state in states], [state["square"] for state in states]
    torch._foreach_lerp_(means, rotated, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, rotated, rotated, 1 - beta2)
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, _EPSILON)
    steps = torch._foreach_div(means, roots)
    done = states[0]["step"] + 1
    # Adam's corrections for averages that start at zero.
    size = lr * (1 - beta2**done) ** 0.5 / (1 - beta1**done)
    back = [
        _rotate_back(step, state).view_as(weight) for step, state, weight in zip(steps, states, weights, strict=True)
    ]
    torch._foreach_add_(weights, back, alpha=-size)
    for state, gradient in zip(states, gradients, strict=True):
        state["step"] = done
        for side in _sides(gradient):
            state[f"covariance {side}"].lerp_(_covariance(gradient, side), 1 - beta2)
        if done % _RENEW_EVERY == 0:
            _renew(state)


def _start(gradient: torch.Tensor) -> State:
    state: State = {"step": 0, "mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
    for side in _sides(gradient):
        state[f"covariance {side}"] = _covariance(gradient, side)
        state[f"basis {side}"] = _eigenvectors(state[f"covariance {side}"])
    return state


def _eigenvectors(covariance: torch.Tensor) -> torch.Tensor:
    try:
        # Of gradients that are small, and zero for the most part, as in a trained network, LAPACK does not find them in
        # 32 bits: it gives up, or finds NaN.
        return torch.linalg.eigh(covariance.cpu().double())[1].to(covariance)  # not every device has 64 bits
    except torch.linalg.LinAlgError:  # not finite: that the training diverges, the loss will show
        return torch.eye(len(covariance)).to(covariance)


def _sides(gradient: torch.Tensor) -> list[int]:
    """The sides that get a basis: 0 for the rows, 1 for the columns."""
    return [side for side in range(gradient.dim()) if gradient.dim() > 1 and 1 < gradient.shape[side] <= _LARGEST_SIDE]


def _covariance(gradient: torch.Tensor, side: int) -> torch.Tensor:
    return gradient @ gradient.T if side == 0 else gradient.T @ gradient


def _rotate(matrix: torch.Tensor, state: State) -> torch.Tensor:
    """Rotate into the basis."""
    if "basis 0" in state:
        matrix = state["basis 0"].T @ matrix
    return matrix @ state["basis 1"] if "basis 1" in state else matrix


def _rotate_back(matrix: torch.Tensor, state: State) -> torch.Tensor:
    """Rotate out of the basis."""
    if "basis 0" in state:
        matrix = state["basis 0"] @ matrix
    return matrix @ state["basis 1"].T if "basis 1" in state else matrix


def _renew(state: State) -> None:
    """One step of power iteration. The mean is rotated along; the squares only follow the order of the eigenvalues."""
    mean = _rotate_back(state["mean"], state)
    for side in _sides(mean):
        basis = state[f"basis {side}"]
        product = state[f"covariance {side}"] @ basis
        order = (basis * product).sum(0).argsort(descending=True)
        state[f"basis {side}"] = torch.linalg.qr(product[:, order])[0]
        state["square"] = state["square"].index_select(side, order)
    state["mean"] = _rotate(mean, state)
