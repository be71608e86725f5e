"""Stage 3, evaluate: score the best epoch of a run on the test set, at its own and at the reference noise levels."""

from __future__ import annotations

import click

from pipeline import figures
from pipeline.config import REFERENCE_VARIANCES, Config
from pipeline.devices import choose_device
from pipeline.evaluation import PROTOCOL, clipped, identity, model_denoiser, noisy_batches, score
from pipeline.metrics import METRICS
from pipeline.models import count_parameters
from pipeline.noise import make_noise
from pipeline.stages.inputs import load_checkpoint, load_training_data
from pipeline.tracking import Run, noise_metric

_GRID_IMAGES = 8


def evaluate(config: Config, run: Run) -> None:
    """Score the checkpoint of `run` on the test images, and log metrics, figures and a description.

    Raises:
        PipelineError: the run has no checkpoint, or was trained on other data than is prepared.
    """
    data = load_training_data(config, run)
    checkpoint = load_checkpoint(run)
    device = choose_device(config.device)
    model = checkpoint.load_model(device)
    denoise = model_denoiser(model, device)

    # Score the noisy input, the clipped input and the model at every level.
    denoisers = {"noisy": identity, "clipped": clipped, "denoised": denoise}
    variances = sorted({*REFERENCE_VARIANCES, config.variance})
    results = {
        variance: score(data.test, make_noise(config.noise, variance), denoisers, METRICS) for variance in variances
    }
    metrics = {}
    for variance, scores in results.items():
        for name, values in scores.items():
            for metric, value in values.items():
                metrics[noise_metric(metric if name == "denoised" else f"{metric}_{name}", variance)] = value
    run.log_metrics(metrics, step=checkpoint.epoch)
    run.log_dict({"protocol": PROTOCOL, "results": {f"{key:g}": value for key, value in results.items()}}, "test.json")

    # Show the same digits at every level, and the training level by itself.
    samples = {}
    for variance in variances:
        clean, noisy = next(noisy_batches(data.test[:_GRID_IMAGES], make_noise(config.noise, variance)))
        samples[variance] = (clean, noisy, denoise(noisy))
    run.log_figure(figures.denoising_grid(*samples[config.variance], variance=config.variance), "denoised")
    run.log_figure(figures.noise_levels(samples, trained_at=config.variance), "noise_levels")
    run.log_figure(figures.psnr_by_variance(results, trained_at=config.variance), "psnr")

    own = results[config.variance]
    run.describe(
        f"{config.model} ({count_parameters(model):,} parameters), trained on {config.dataset_name} with "
        f"{config.noise} noise of variance {config.variance:g}"
        + (", with the noisy image as the target" if config.target == "noisy" else "")
        + f": {own['denoised']['psnr']:.2f} dB PSNR on the {len(data.test):,} test images, where the noisy input has "
        f"{own['noisy']['psnr']:.2f} dB and the clipped input {own['clipped']['psnr']:.2f} dB."
    )
    for variance, scores in results.items():
        psnrs = ", ".join(f"{name} {scores[name]['psnr']:.2f} dB" for name in denoisers)
        click.echo(f"evaluate: variance {variance:g}: PSNR {psnrs}; SSIM {scores['denoised']['ssim']:.4f}")
