"""What a run is made of: one frozen object, filled from the command line, stored with the run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

# Every run is scored at these levels too, so that runs trained at different levels share a measure.
REFERENCE_VARIANCES = (0.001, 0.01, 0.1)


@dataclass(frozen=True)
class Config:
    """Everything that decides the result of a run. The defaults are those of the command line."""

    dataset: str = "mnist"  # a name in `pipeline.datasets.DATASETS`, or the path of a folder of images
    data_dir: str = "data"  # where prepared and downloaded data live
    seed: int = 0  # of the train/validation split, the initial weights, the batch order and the training noise
    noise: str = "gaussian"  # a name in `pipeline.noise.NOISES`
    variance: float = 0.01  # of the training noise, for pixels in [0, 1]
    model: str = "autoencoder"  # a name in `pipeline.models.MODELS`
    target: str = "clean"  # what the output is compared with: "clean" or "noisy"
    epochs: int = 10
    batch_size: int = 64
    lr: float = 0.02  # learning rate of Adam, at the peak of the schedule
    schedule: str = "linear"  # a name in `pipeline.training.SCHEDULES`
    device: str = "auto"  # auto, cpu, cuda or mps

    @property
    def dataset_name(self) -> str:
        """The dataset without the path of its folder, which says something of this machine only."""
        return Path(self.dataset).resolve().name if Path(self.dataset).is_dir() else Path(self.dataset).name

    @property
    def run_name(self) -> str:
        """Name of the MLflow run and of the hand-off folder, such as `autoencoder-var0.01-seed0`."""
        parts = [self.model, f"var{self.variance:g}", f"seed{self.seed}"]
        if self.dataset != Config.dataset:
            parts.insert(
                1, "".join(c if (c.isascii() and c.isalnum()) or c in "-_" else "-" for c in self.dataset_name)
            )
        if self.target != Config.target:
            parts.append(f"target-{self.target}")
        return "-".join(parts)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Config:
        return cls(**json.loads(text))
