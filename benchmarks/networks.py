"""Which network denoises photographs best for its cost: `python -m benchmarks.networks --data-dir data`.

Each is trained for the same CPU time on one thread, on what `prepare --dataset photos --channels 1` has prepared, and
scored on the validation photographs at sigma 15, 25 and 50 of 255. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

import torch
from torch import nn

from pipeline.config import Config
from pipeline.data.batches import Batch, Batches, training_batches, validation_batch
from pipeline.data.prepared import PreparedData, load_prepared
from pipeline.models import Recipe, build_model, count_parameters
from pipeline.models.facts import multiply_adds_per_pixel
from pipeline.noise import Noise, make_noise
from pipeline.reports.tables import markdown_table
from pipeline.training.loop import Trainer

NETWORKS = (
    ("resunet", "s"),
    ("resunet", "m"),
    ("resunet", "l"),
    ("resunet", "deep"),
    ("resunet:scales=4,width=12", ""),
    ("resunet:scales=2,width=24", ""),
    ("unet", ""),
    ("dncnn", "s"),
)
RECIPE = Recipe(batch_size=16, lr=0.002, loss="rmse", precision="float32")
NOISE = "gaussian:variance=0.00014:0.052"  # sigma uniform in 3 to 58 of 255
SIGMAS = (15, 25, 50)  # of 255
CROP, TRIED = 64, 12  # pixels; steps that are timed before the number of all steps is known
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Result:
    """A trained network on the validation photographs."""

    megapixels: float  # seen in training
    seconds: float  # of one thread for a megapixel
    psnrs: list[float]  # dB, for each of `SIGMAS`


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--seconds", type=float, default=560, help="CPU seconds of training for each network")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load_prepared(Config(dataset="photos", channels=1, data_dir=arguments.data_dir))
    rows = []
    for spec, size in NETWORKS:
        torch.manual_seed(0)
        model = build_model(spec, size)
        result = trained(model, data, arguments.seconds)
        costs = [f"{count_parameters(model):,}", f"{multiply_adds_per_pixel(model, 1) / 1000:.0f}"]
        name = f"`{spec}` {size}".strip()
        rows.append(
            [name, *costs, f"{result.seconds:.2f}", f"{result.megapixels:.0f}", *map("{:.2f}".format, result.psnrs)]
        )
        print(*rows[-1], file=sys.stderr, flush=True)
    columns = ["network", "parameters", "kMAC a pixel", "s a megapixel", "megapixels seen", *(f"{s}" for s in SIGMAS)]
    print(f"\nPSNR in dB, {arguments.seconds:g} CPU seconds of training each:\n")
    print(markdown_table([columns, *rows]))


def trained(model: nn.Module, data: PreparedData, seconds: float) -> Result:
    """Trained on crops of the training photographs, and scored."""
    batches = training_batches(data.train, CROP, CPU, by_detail=True)
    validation = validation_batch(data.validation, 0, len(data.validation), CPU)
    model, images = train_for(seconds, model, batches, validation, make_noise(NOISE), RECIPE)
    return scored(model.eval(), data, images * CROP**2 / 1e6)


def train_for(
    seconds: float, model: nn.Module, batches: Batches, validation: Batch, noise: Noise, recipe: Recipe, seed: int = 0
) -> tuple[nn.Module, int]:
    """Train for a time that counts on one thread alone, whatever else the machine does.

    Returns:
        What the training has come to, and how many images it has seen.
    """
    trainer = Trainer(model, batches, validation, noise, recipe, epochs=1, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    began, steps = time.process_time(), 0
    spent = 0.0
    while spent < seconds:
        for batch in batches.epoch(recipe.batch_size, generator):
            # The rate falls to zero at the end of the time, which the steps so far foretell.
            trainer.steps = max(TRIED, steps + 1, round(steps * seconds / spent) if steps >= TRIED else 10**6)
            trainer.step(batch)
            steps += 1
            spent = time.process_time() - began
            if spent >= seconds:
                break
    return trainer.result, steps * recipe.batch_size


@torch.no_grad()
def scored(model: nn.Module, data: PreparedData, megapixels: float) -> Result:
    """On whole photographs, the noise not clipped, the output clipped."""
    psnrs, began, pixels = [], time.process_time(), 0
    for sigma in SIGMAS:
        of = []
        for number, image in enumerate(data.validation.images):
            clean = data.levels.to_tensor(torch.from_numpy(image.copy()))[None]
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(number))
            error = (model(clean + noise * sigma / 255).clamp(0, 1) - clean).square().mean()
            of.append(-10 * error.log10().item())
            pixels += clean.numel()
        psnrs.append(sum(of) / len(of))
    return Result(megapixels, (time.process_time() - began) / pixels * 1e6, psnrs)


if __name__ == "__main__":
    main()
