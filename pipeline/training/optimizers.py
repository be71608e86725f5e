"""What turns gradients into steps. Adding one is a function and an entry in `OPTIMIZERS`.

This module imports no torch until an optimizer is made, so that the command line can list the table at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Optimizer(Protocol):
    """What training needs of torch's optimizers."""

    param_groups: list[dict[str, Any]]  # the learning rate is `param_groups[0]["lr"]`

    def step(self) -> Any:
        """Change the parameters by their gradients."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on, besides the parameters."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        ...


Make = Callable[[Iterable["torch.nn.Parameter"], float, float], Optimizer]
"""Takes the parameters, the learning rate, and beta2: the decay of averages of what is quadratic in the gradient."""


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
