"""The classical denoisers, tuned on validation images and scored on test images, each as an MLflow run."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.errors import PipelineError, counted
from pipeline.scoring.classical import BASELINES, missing, score_baseline
from pipeline.scoring.score import PROTOCOL
from pipeline.stages.prepare import prepare
from pipeline.text import say
from pipeline.tracking import names, opening, scores


def score_baselines(config: Config, count: int) -> None:
    """Score every installed baseline on the first `count` test images, and log each as a run.

    With the noise of the images where they have any, else at the reference levels.

    Args:
        config: names the dataset and the seed of its split.
        count: test images to score on.

    Raises:
        PipelineError: there are no clean images.
    """
    data = prepare(config)
    if data.test.clean is None or data.validation.clean is None:
        raise PipelineError(
            f"the classical denoisers are tuned and scored against clean images, and {config.dataset} has none"
        )
    test = data.test[:count]
    for name in BASELINES:
        if reason := missing(name):
            say(f"baselines: {name}: skipped, {reason}")
            continue
        parameters, results = score_baseline(name, data.validation, test)
        report = {"protocol": PROTOCOL, "images": len(test), "parameters": parameters, "results": results}
        with opening.start_baseline(name, config.dataset, len(test), config.data_dir) as run, run.together():
            run.log_dataset(data, config.dataset_name)
            run.log_dict(report, names.EVALUATION)
            run.log_metrics(scores.by_noise(results, ("psnr", "ssim")))
        psnrs = ", ".join(f"{summary['denoised']['psnr']:.2f} dB at {label}" for label, summary in results.items())
        say(f"baselines: {name}: {psnrs}, on {counted(len(test), 'test image')}")
