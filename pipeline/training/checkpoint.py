"""A checkpoint: the best epoch of a training, for evaluation and export. It is read without unpickling any code.

What an interrupted training needs to resume is in `states`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline.errors import PipelineError
from pipeline.models import build_model


@dataclass(frozen=True)
class Checkpoint:
    """The best epoch of a training run."""

    model: str  # NAME[:key=value,…], as `pipeline.models.build_model` takes it
    size: str
    channels: int
    epoch: int  # from 1
    validation_loss: float
    weights: dict[str, torch.Tensor]  # the state_dict
    images: int = 0  # seen in training until then; the step of metrics of these weights

    @property
    def digest(self) -> str:
        """SHA-256 of the names, types, shapes and values of the weights."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.weights.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def load_model(self, device: torch.device) -> nn.Module:
        """The model with these weights, in eval mode, on `device`."""
        model = build_model(self.model, self.size, self.channels)
        model.load_state_dict(self.weights, strict=True)
        return model.to(device).to(memory_format=torch.channels_last).eval()

    def save(self, path: Path) -> None:
        torch.save(vars(self), path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint.

        Raises:
            PipelineError: the file is damaged, or is not a checkpoint.
        """
        try:
            return cls(**torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # on a damaged file, torch.load raises errors of many kinds
            raise PipelineError(f"{path.name} is not a readable checkpoint: {type(error).__name__}") from error
