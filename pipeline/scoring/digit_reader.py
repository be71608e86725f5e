"""A small, fixed classifier of MNIST's digits: shows how legible digits are after noise and after denoising.

Trained by `benchmarks/train_classifier.py` on clean training digits. Its weights are part of the package, so that
the accuracies of all runs can be compared.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline.errors import PipelineError

WEIGHTS = Path(__file__).with_name("digit_reader.npz")


class DigitClassifier(nn.Module):
    """Four convolutions with BatchNorm, the maxima of 3x3 regions, one linear layer: 26,298 parameters.

    Input: float32 [N, 1, 28, 28], 0 black, 1 white. Output: scores of the ten digits, float32 [N, 10].
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels_in, channels_out, stride in ((1, 16, 2), (16, 32, 1), (32, 32, 2), (32, 32, 1)):
            layers += [
                nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(3), nn.Flatten(), nn.Linear(32 * 9, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)

    @torch.no_grad()
    def read(self, images: torch.Tensor) -> torch.Tensor:
        """The most likely digit of each image: int64 [N]."""
        return self(images).argmax(dim=1)


def load_classifier(path: Path = WEIGHTS) -> DigitClassifier:
    """The classifier with its committed weights, in eval mode.

    Raises:
        PipelineError: the weights file is missing or damaged.
    """
    model = DigitClassifier()
    try:
        with np.load(path, allow_pickle=False) as file:
            model.load_state_dict({name: torch.from_numpy(file[name]) for name in file.files})
    except Exception as error:  # NumPy and torch raise many kinds on a damaged file
        raise PipelineError(f"{path.name} is not a readable weights file: {type(error).__name__}") from error
    return model.to(memory_format=torch.channels_last).eval()  # a third faster
