"""What turns gradients into steps. Adding one is a function and an entry in `OPTIMIZERS`.

This module imports no torch until an optimizer is made, so that the command line can list the table at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Make = Callable[[Iterable["torch.nn.Parameter"], float, float], "torch.optim.Optimizer"]
"""Takes the parameters, the learning rate, and beta2: the decay of averages of what is quadratic in the gradient."""


def _adam(parameters: Iterable[torch.nn.Parameter], lr: float, beta2: float) -> torch.optim.Optimizer:
    import torch

    return torch.optim.Adam(parameters, lr=lr, betas=(0.9, beta2), fused=True)


def _soap(parameters: Iterable[torch.nn.Parameter], lr: float, beta2: float) -> torch.optim.Optimizer:
    from pipeline.soap import SOAP

    return SOAP(parameters, lr=lr, betas=(0.9, beta2))


OPTIMIZERS: dict[str, tuple[Make, str]] = {
    "adam": (_adam, "Adam, Kingma and Ba 2014"),
    "soap": (_soap, "SOAP, Vyas et al. 2024: Adam in the eigenbasis of the gradients' covariances"),
}
