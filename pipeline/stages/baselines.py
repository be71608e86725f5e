"""The classical denoisers, tuned on validation images and scored on test images, each as an MLflow run."""

from __future__ import annotations

import click

from pipeline.config import REFERENCE_VARIANCES, Config
from pipeline.noise import make_noise
from pipeline.scoring.classical import BASELINES, baseline_denoiser, missing, tune
from pipeline.scoring.metrics import METRICS
from pipeline.scoring.score import PROTOCOL, means, noisy_batches, score
from pipeline.stages.prepare import prepare
from pipeline.tracking import names, opening

_TUNING_IMAGES = 50  # of the validation images


def score_baselines(config: Config, count: int) -> None:
    """Score every baseline that is installed on the first `count` test images, at the reference levels.

    Each is told the noise level, and has its parameter chosen on validation images at that level.
    """
    data = prepare(config)
    test = data.test[:count]
    for name in BASELINES:
        if reason := missing(name):
            click.echo(f"baselines: {name}: not run, {reason}")
            continue
        results, chosen = {}, {}
        for variance in REFERENCE_VARIANCES:
            noise = make_noise("gaussian", f"{variance:g}")
            sigma = variance**0.5
            pairs = list(noisy_batches(data.validation[:_TUNING_IMAGES], noise))
            chosen[f"{variance:g}"] = tune(name, pairs, sigma)
            denoiser = baseline_denoiser(name, sigma, chosen[f"{variance:g}"])
            results[noise.label] = {"denoised": means(score(test, noise, {name: denoiser}, METRICS)[name])}
        with opening.start_baseline(name, config.dataset, len(test), config.data_dir) as run:
            run.log_dataset(data, config.dataset_name)
            run.log_dict(
                {"protocol": PROTOCOL, "images": len(test), "parameters": chosen, "results": results}, names.EVALUATION
            )
            run.log_scores(results)
        psnrs = ", ".join(f"{of['denoised']['psnr']:.2f} dB at {label}" for label, of in results.items())
        click.echo(f"baselines: {name}: {psnrs}, on {len(test)} test images")
