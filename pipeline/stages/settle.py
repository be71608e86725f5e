"""The config of a training: the options as they were given, and what follows from the prepared data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.config import AUTO, OF_KNOWN_LEVEL, Config, DataFacts
from pipeline.data.images import describe_sizes, some_floats
from pipeline.data.prepared import PARTS, PreparedData
from pipeline.errors import PipelineError, counted
from pipeline.noise.estimation import noise_sigma
from pipeline.text import say

_IMAGES = 1000  # to train on, that the noise level is estimated from
_LEAST_SIGMA = 1e-4  # of noise that there is


def settle(asked: Config, data: PreparedData) -> Config:
    """The config for training on `data`, with what was asked for; prints what was chosen.

    Raises:
        PipelineError: the options do not go together, or do not fit the data.
    """
    config = asked.settled(data.facts)
    _check(config, data)
    if config.target in OF_KNOWN_LEVEL and not config.training_noise.level:
        config = replace(config, noise=f"recorded:sigma={_estimated_level(config, data):.4g}")
    if config.start:
        from pipeline.stages.start import check_start  # imports onnx

        check_start(config, data.channels)
    say(f"train: {_describe(config, data, asked)}")
    return config


def _estimated_level(config: Config, data: PreparedData) -> float:
    """The standard deviation of the noise of the training images, on the [0, 1] scale."""
    some = some_floats(data.train.images, data.train.levels, _IMAGES)
    sigma = noise_sigma(some)
    if sigma < _LEAST_SIGMA:
        raise PipelineError(
            f"--target {config.target}: no noise was found in {config.dataset}; give its standard deviation, for "
            "pixels from 0 to 1, with --noise recorded:sigma=NUMBER, or use --target self"
        )
    say(f"train: the noise has a standard deviation of {sigma:.4g}, estimated from {counted(len(some), 'image')}")
    return sigma


def _describe(config: Config, data: PreparedData, asked: Config) -> str:
    """What is trained on, how long, and with what that follows from the data and goes without saying nowhere."""
    facts = data.facts
    per_epoch = facts.per_epoch(config.crop)
    images = f"{counted(facts.images, 'image')} of {describe_sizes(data.train.images)}"
    if config.crop:
        images = f"{counted(per_epoch, 'crop')} of {config.crop}x{config.crop} from {images}"
    epochs = counted(config.epochs, "epoch")
    total = f" ({config.epochs * per_epoch:,} in all)" if config.epochs > 1 else ""
    usual, options = DataFacts(), asked.options
    others = [
        f"--{name} {getattr(config, name)}"
        for name in ("noise", "target")
        if options[name] == AUTO and getattr(config, name) != getattr(usual, name)
    ]
    return ", ".join([f"{images}, {epochs}{total}", *others])


def _check(config: Config, data: PreparedData) -> None:
    recorded = config.training_noise.is_recorded
    if recorded and data.layout == "clean":
        raise PipelineError(f"--noise {config.noise}: {config.dataset} has no noisy images, only clean ones")
    if data.train.clean is None and not recorded:
        raise PipelineError(
            f"--noise {config.noise}: {config.dataset} has no clean images to add noise to; use recorded"
        )
    if data.train.clean is None and config.target == "clean":
        raise PipelineError(
            "--target clean: the data have no clean images; allowed for them: noisy2noisy for bursts, self, sure, r2r"
        )
    if recorded and config.target == "noisy2noisy":
        for name in PARTS:
            scenes = getattr(data, name).scenes
            if np.bincount(scenes).min() < 2:
                some = ", ".join(data.manifest.get("one_capture", ()))
                raise PipelineError(
                    "--target noisy2noisy: two or more captures of every scene are needed, and "
                    f"{config.dataset} has scenes with one only{some and f', such as {some}'}"
                )
    if config.color_jitter and (data.channels != 3 or recorded):
        raise PipelineError("--color-jitter is for colour images with generated noise; allowed here: 0")
    if config.crop > data.facts.smallest:
        raise PipelineError(
            f"--crop {config.crop} is larger than the smallest side of the images, {data.facts.smallest} pixels"
        )
    if config.crop == 0 and not data.facts.one_size:
        raise PipelineError("--crop 0: the images differ in size; train on random crops of them, such as --crop 64")
