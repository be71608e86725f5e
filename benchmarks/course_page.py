"""The two mistakes of the course page, next to what its text asks for. Prints a Markdown table.

    python benchmarks/course_page.py

The course page is the tutorial that this project began with. Its network is trained with its recipe (Adam at 0.001,
batch 64, 10 epochs, variance 0.01) twice: with the noisy image as the target, as its code does, and with the clean
image, as its text says. Each is scored on the 10,000 test digits in eval mode, and in train mode, as the course page
does because it never calls `eval()`. Takes about three minutes on two cores.
"""

from __future__ import annotations

import copy

import torch

from pipeline.config import Config
from pipeline.data.batches import WholeImages, validation_batch
from pipeline.data.prepared import PreparedData
from pipeline.models import COURSE_PAGE, build_model
from pipeline.noise import make_noise
from pipeline.scoring.metrics import psnr
from pipeline.scoring.score import Denoiser, clipped, score
from pipeline.stages.prepare import prepare
from pipeline.training.loop import Best, Trained, Trainer

VARIANCE, EPOCHS = "0.01", 10


def train(data: PreparedData, target: str) -> Trained:
    torch.manual_seed(0)
    return Trainer(
        build_model("autoencoder"),
        WholeImages(data.train),
        validation_batch(data.validation, 0, len(data.validation), torch.device("cpu")),
        make_noise("gaussian", VARIANCE),
        COURSE_PAGE,
        EPOCHS,
        target=target,
    ).run()


def test_psnr(data: PreparedData, best: Best, mode: str) -> float:
    model = build_model("autoencoder")
    model.load_state_dict(best.state_dict)

    @torch.no_grad()
    def denoise(noisy: torch.Tensor) -> torch.Tensor:
        # A copy, because in train mode BatchNorm changes with every batch. 64 is the batch size of the course page.
        network = copy.deepcopy(model).train(mode == "train")
        return torch.cat([network(batch) for batch in noisy.split(64)]).clamp(0, 1)

    return mean_psnr(data, denoise)


def mean_psnr(data: PreparedData, denoiser: Denoiser) -> float:
    scores = score(data.test, make_noise("gaussian", VARIANCE), {"denoised": denoiser}, {"psnr": psnr})
    return float(scores["denoised"]["psnr"].mean())


def main() -> None:
    data = prepare(Config())
    rows = []
    for target in ("noisy", "clean"):
        trained = train(data, target)
        train_mode, eval_mode = (test_psnr(data, trained.best, mode) for mode in ("train", "eval"))
        rows.append((target, trained.epochs, train_mode, eval_mode))

    print(f"\nInput clipped to [0, 1], not denoised: {mean_psnr(data, clipped):.2f} dB.\n")
    print("| target | validation loss, epoch 1 | epoch 10 | test PSNR, train mode | test PSNR, eval mode |")
    print("|---|---|---|---|---|")
    for target, epochs, train_mode, eval_mode in rows:
        losses = f"{epochs[0].validation_loss:.4f} | {epochs[-1].validation_loss:.4f}"
        print(f"| {target} image | {losses} | {train_mode:.2f} dB | {eval_mode:.2f} dB |")


if __name__ == "__main__":
    main()
