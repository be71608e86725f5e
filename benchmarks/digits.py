"""What makes a blind model for digits better: `python -m benchmarks.digits`.

Each change of the residual U-Net or of its training is tried alone, for the same CPU time on one thread, over variances
from 0.0005 to 0.1, and scored on the validation digits at three of them. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import nn
from torch.nn import functional

from benchmarks.networks import CPU, train_for
from pipeline.data.batches import Batch, WholeImages, validation_batch
from pipeline.data.images import Part
from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.models import GENERAL, Recipe, count_parameters
from pipeline.models.resunet import ResidualBlock, ResUNet
from pipeline.noise import make_noise
from pipeline.reports.tables import markdown_table
from pipeline.scoring.metrics import psnr
from pipeline.scoring.score import noisy_batches

TRAINED = 48_000  # digits; the other 12,000 that are not for testing validate
VARIANCES = ("0.001", "0.01", "0.1")
NOISE = make_noise("gaussian", "0.0005:0.1")
RECIPE = GENERAL["best"]
SHIFT = 2  # pixels

Change = Callable[[torch.Tensor, torch.Generator], torch.Tensor]  # of clean digits, uint8 [N, 1, 28, 28]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=200, help="CPU seconds of training for each")
    parser.add_argument("--digits", type=int, default=2000, help="validation digits to score on")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each, averaged")
    parser.add_argument("--only", default="", help="names with this in them")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for trial in TRIALS:
        if arguments.only not in trial.name:
            continue
        scores = torch.zeros(len(VARIANCES), dtype=torch.float64)
        for seed in range(arguments.seeds):
            model, seen = trained(trial.network, trial.recipe, trial.change, arguments.seconds, seed)
            psnrs, cost = scored(trial.at_work(model).eval(), arguments.digits)
            scores += psnrs / arguments.seeds
        facts = f"{count_parameters(model):,}", f"{seen:,}", f"{1000 * cost:.2f}", *(f"{s:.2f}" for s in scores)
        rows.append([trial.name, *facts])
        print(*rows[-1], file=sys.stderr, flush=True)
    columns = ["", "parameters", "digits seen", "CPU ms a digit", *VARIANCES]
    print(
        f"PSNR in dB by variance, after {arguments.seconds:g} CPU seconds of training, {arguments.seeds} seeds each:\n"
    )
    print(markdown_table([columns, *rows]))


@dataclass(frozen=True)
class Trial:
    """One change, and all else as it is."""

    name: str
    network: Callable[[], nn.Module] = ResUNet
    recipe: Recipe = RECIPE
    change: Change | None = None  # of the clean digits of a batch
    at_work: Callable[[nn.Module], nn.Module] = lambda model: model  # around the trained network


@cache
def trained(
    network: Callable[[], nn.Module], recipe: Recipe, change: Change | None, seconds: float, seed: int
) -> tuple[nn.Module, int]:
    """A trained network, and the number of digits that it has seen."""
    images = BundledMNIST().images()[0]
    torch.manual_seed(seed)
    train = Part(images[:TRAINED])
    batches = WholeImages(train) if change is None else Changed(train, change)
    validation = validation_batch(Part(images[TRAINED:]), 0, 1, CPU)
    return train_for(seconds, network(), batches, validation, NOISE, recipe, seed)


class Changed(WholeImages):
    """Digits that are changed every time they are seen."""

    def __init__(self, part: Part, change: Change) -> None:
        super().__init__(part)
        self._change = change

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        for batch in super().epoch(batch_size, generator):
            assert batch.clean is not None
            yield replace(batch, clean=self._change(batch.clean, generator))


def shifted(digits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """By up to `SHIFT` pixels along both axes; what leaves at one side is black at the other."""
    moves = torch.randint(-SHIFT, SHIFT + 1, (len(digits), 2), generator=generator)
    padded = functional.pad(digits, [SHIFT] * 4)
    side = torch.arange(digits.shape[-1]) + SHIFT
    rows, columns = ((side + moves[:, axis, None]) for axis in (0, 1))
    return padded[torch.arange(len(digits))[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]


def elastic(digits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Every place moved by a smooth field, a pixel or so (Simard et al. 2003)."""
    field = torch.randn(len(digits), 2, 5, 5, generator=generator) * 2 / digits.shape[-1]
    field = functional.interpolate(field, digits.shape[-2:], mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    grid = functional.affine_grid(torch.eye(2, 3).expand(len(digits), 2, 3), list(digits.shape), align_corners=False)
    return functional.grid_sample(digits.float(), grid + field, align_corners=False).round().clamp(0, 255).byte()


class OverShifts(nn.Module):
    """The mean over shifts of the input, each undone: a network that halves its input is not the same at each."""

    def __init__(self, model: nn.Module, shifts: int) -> None:
        super().__init__()
        self.model, self.shifts = model, shifts

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        height, width = noisy.shape[-2:]
        padded = functional.pad(noisy, [self.shifts] * 4, mode="reflect")
        total = torch.zeros_like(noisy)
        for top in range(self.shifts):
            for left in range(self.shifts):
                # A window that holds the whole image at another place: of a size that can still be halved twice.
                window = padded[..., top : top + height + self.shifts, left : left + width + self.shifts]
                begin = self.shifts - top, self.shifts - left
                total += self.model(window)[..., begin[0] : begin[0] + height, begin[1] : begin[1] + width]
        return total / self.shifts**2


def wider_in_the_middle() -> nn.Module:
    """48 channels at 14x14 instead of 32."""
    model = ResUNet()
    full, half, quarter = 16, 48, 64
    model.encoder[1], model.decoder[0] = ResidualBlock(half, True), ResidualBlock(half, True)
    model.down = nn.ModuleList(
        nn.Conv2d(above, below, 3, stride=2, padding=1) for above, below in ((full, half), (half, quarter))
    )
    model.up = nn.ModuleList(
        nn.ConvTranspose2d(below, above, 2, stride=2) for below, above in ((quarter, half), (half, full))
    )
    return model


class _Attention(nn.Module):
    """Every place of 7x7 looks at every other; initially the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.zeros(1, 49, width))
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        nn.init.zeros_(self.attention.out_proj.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        places = self.norm(features.flatten(2).transpose(1, 2) + self.places)
        seen = self.attention(places, places, places, need_weights=False)[0]
        return features + seen.transpose(1, 2).view_as(features)


def with_attention() -> nn.Module:
    """Attention between the two blocks at 7x7."""
    model = ResUNet()
    model.middle.insert(1, _Attention(64))
    return model


class WithLevel(nn.Module):
    """A second network estimates the noise, and its estimate is one more channel (CBDNet, Guo et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 1)
        )
        self.denoiser = ResUNet(channels=2)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        level = self.level(noisy).mean(dim=(2, 3), keepdim=True).expand_as(noisy)
        denoised: torch.Tensor = self.denoiser(torch.cat([noisy, level], dim=1))[:, :1]
        return denoised


TRIALS = (
    Trial("as it is"),
    Trial("its mean over 4x4 shifts of the input", at_work=lambda model: OverShifts(model, 4)),
    Trial("EMA of 0.999", recipe=replace(RECIPE, ema=0.999)),
    Trial("digits shifted by up to 2 pixels", change=shifted),
    Trial("digits changed elastically", change=elastic),
    Trial("48 channels at 14x14", network=wider_in_the_middle),
    Trial("attention at 7x7", network=with_attention),
    Trial("a second network for the level", network=WithLevel),
    Trial("SOAP, rate 0.003", recipe=replace(RECIPE, optimizer="soap")),
    Trial("SOAP, rate 0.01", recipe=replace(RECIPE, optimizer="soap", lr=0.01)),
)


@torch.no_grad()
def scored(model: nn.Module, digits: int) -> tuple[torch.Tensor, float]:
    """The mean PSNR in dB at each of `VARIANCES`, float64, and the CPU seconds of a digit."""
    part = Part(BundledMNIST().images()[0][TRAINED : TRAINED + digits])
    psnrs, spent = [], 0.0
    for variance in VARIANCES:
        of = []
        for clean, noisy in noisy_batches(part, make_noise("gaussian", variance)):
            began = time.process_time()
            denoised = model(noisy)
            spent += time.process_time() - began
            of.append(psnr(denoised, clean))
        psnrs.append(torch.cat(of).double().mean())
    return torch.stack(psnrs), spent / digits / len(VARIANCES)


if __name__ == "__main__":
    main()
