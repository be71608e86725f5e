"""Stage 2, train: fit the model to the prepared images, and leave the best epoch in the run."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path

import click
import torch
from torch import nn

from pipeline import figures
from pipeline.batches import training_batches, validation_images
from pipeline.checkpoint import Checkpoint
from pipeline.config import Config
from pipeline.data import load_prepared
from pipeline.devices import choose_device, choose_precision
from pipeline.models import build_model, count_parameters
from pipeline.progress import TrainingProgress
from pipeline.stages.inputs import CHECKPOINT
from pipeline.tracking import Run
from pipeline.training import Epoch, fit, to_images

_SLIDER_IMAGES = 8
_VALIDATION_IMAGES = 4000  # enough to tell epochs apart; the rest would only cost time
_ENOUGH_STEPS = 500  # with a momentum of 0.01, the first value of a running statistic then weighs less than 1 %


def train(config: Config, run: Run) -> None:
    """Train `config.model`, log every epoch to `run`, and keep the best epoch as the artifact `CHECKPOINT`.

    Raises:
        PipelineError: nothing is prepared, the device is not there, or the loss is not finite any more.
    """
    data = load_prepared(config)
    run.log_dataset(data, config.dataset_name)

    # Build the batches, the model and the noise.
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    batches = training_batches(data.train, config.crop, device)
    validation = validation_images(data.validation, config.crop, device)[:_VALIDATION_IMAGES]
    torch.manual_seed(config.seed)
    model = build_model(config.model, config.size, config.channels).to(device)
    noise = config.training_noise
    run.log_params({"parameters": count_parameters(model)})
    run.log_tags({"device": str(device), "torch": torch.__version__, "precision": str(precision).split(".")[1]})

    steps = math.ceil(len(batches) / config.batch_size) * config.epochs
    has_batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    if steps < _ENOUGH_STEPS and has_batch_norm:
        click.echo(
            f"train: only {steps} steps in all; BatchNorm's running statistics need some hundreds: "
            "more --epochs or a smaller --batch-size will do much better"
        )

    # The same few noisy validation images are denoised after every epoch, for the step slider.
    samples = to_images(validation[:_SLIDER_IMAGES].cpu())
    noisy_samples = noise(samples, torch.Generator().manual_seed(0))

    progress = TrainingProgress(config.epochs, len(batches))

    def on_epoch(epoch: Epoch) -> None:
        with torch.no_grad():
            denoised = model(noisy_samples.to(device)).cpu()
        run.log_image(figures.image_strip([noisy_samples, denoised, samples]), "noisy - denoised - clean", epoch.epoch)
        run.log_metrics(
            {
                "train/loss": epoch.train_loss,
                "validation/loss": epoch.validation_loss,
                "learning_rate": epoch.learning_rate,
                "images_per_second": epoch.images_per_second,
            },
            step=epoch.epoch,
        )
        progress.epoch(epoch)

    # Train.
    began = time.perf_counter()
    with progress:
        best = fit(
            model,
            batches,
            validation,
            noise,
            epochs=config.epochs,
            batch_size=config.batch_size,
            lr=config.lr,
            beta2=config.beta2,
            schedule=config.schedule,
            target=config.target,
            loss=config.loss,
            precision=precision,
            seed=config.seed,
            on_progress=progress.update,
            on_epoch=on_epoch,
        )

    seconds = time.perf_counter() - began

    # Keep the best epoch.
    checkpoint = Checkpoint(
        config.model, config.size, config.channels, best.epoch, best.validation_loss, best.state_dict
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(CHECKPOINT).name
        checkpoint.save(path)
        run.log_file(path, str(Path(CHECKPOINT).parent))
    run.log_metrics({"best/epoch": best.epoch, "best/validation_loss": best.validation_loss, "train/seconds": seconds})
    run.log_tags({"weights": checkpoint.digest})
    run.log_figure(figures.loss_curves(progress.epochs, best.epoch, config.loss, config.target), "loss")
