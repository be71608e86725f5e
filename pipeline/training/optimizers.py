"""What turns gradients into steps: optimizers and learning-rate schedules.

To add one, write a function and enter it in `OPTIMIZERS` or `SCHEDULES`.

This module imports torch only when an optimizer is made, so that the command line can list the tables at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Optimizer(Protocol):
    """The part of torch's optimizers that training uses."""

    param_groups: list[dict[str, Any]]  # the learning rate is `param_groups[0]["lr"]`

    def step(self) -> Any:
        """Change the parameters by their gradients."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything besides the parameters that the next steps depend on."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        ...


Make = Callable[[Iterable["torch.nn.Parameter"], float, float], Optimizer]
"""Takes the parameters, the learning rate, and beta2: the decay of averages of squared gradients."""


def _adam(parameters: Iterable[torch.nn.Parameter], lr: float, beta2: float) -> Optimizer:
    import torch

    return torch.optim.Adam(parameters, lr=lr, betas=(0.9, beta2), fused=True)


def _soap(parameters: Iterable[torch.nn.Parameter], lr: float, beta2: float) -> Optimizer:
    from pipeline.training.soap import SOAP

    return SOAP(parameters, lr=lr, betas=(0.9, beta2))


OPTIMIZERS: dict[str, tuple[Make, str]] = {
    "adam": (_adam, "Adam, Kingma and Ba 2014"),
    "soap": (_soap, "SOAP, Vyas et al. 2024: Adam in the eigenbasis of the gradients' covariances"),
}

_WARM_UP = 0.1  # share of the steps in which the linear schedule rises to its peak


def _linear(progress: float) -> float:
    if progress < _WARM_UP:
        return 0.04 + 0.96 * progress / _WARM_UP
    return (1 - progress) / (1 - _WARM_UP)


# The factor on the learning rate, given the share of all steps that are done, in [0, 1).
SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": _linear,  # up to the peak, then down to zero
    "constant": lambda progress: 1.0,
}
