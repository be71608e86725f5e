"""Score an exported model on a folder of images, by its file alone: no run, no store, nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from pipeline.config import Config
from pipeline.data.sources import open_source
from pipeline.denoising.levels import ChosenLevels
from pipeline.denoising.model import Model, located_model, open_model
from pipeline.errors import ArgumentError
from pipeline.noise import Noise, make_noise
from pipeline.scoring import awgn
from pipeline.scoring.score import Denoiser
from pipeline.stages.other_data import images_of, print_scores, score_images
from pipeline.tracking import names


def evaluate_file(model: str, other: Config, noises: Mapping[str, Noise], protocol: str = "") -> None:
    """Print the scores of an ONNX file, in onnxruntime.

    Args:
        model: a hand-off folder, its .onnx file, or an MLflow model URI.
        other: names the dataset, its noisy images and its levels.
        noises: to score at, by label; none for that of the images.
        protocol: "awgn" for the noises of `pipeline.scoring.awgn`, or "".

    Raises:
        PipelineError: the model or the images cannot be used, or it is not known at which noise.
    """
    with located_model(model) as path:
        network = open_model(path)
        with images_of(open_source(other), other, network.channels) as part:
            if protocol:
                part, noises = awgn.ordered(part), awgn.noises()
            elif not noises:
                if part.noisy is None:
                    raise ArgumentError(
                        f"--dataset {other.dataset}: the images are clean, and a file does not say which noise to add; "
                        "give --protocol awgn, or one such as --variance 0.01"
                    )
                recorded = make_noise("recorded")
                noises = {recorded.label: recorded}
            results = score_images(part, file_denoiser(network), noises)
    print_scores(names.metric_text(other.dataset_name), results, [*noises], awgn.digest_of(part))


def file_denoiser(model: Model) -> Denoiser:
    """An exported model as the command `denoise` runs it, for images on the [0, 1] scale; its output is clipped."""
    on_floats = replace(model, levels=ChosenLevels(white=1, black=0))

    def denoise(noisy: torch.Tensor) -> torch.Tensor:
        (denoised,) = on_floats.denoise([noisy.numpy()], np.dtype(np.float32))
        return torch.from_numpy(denoised).clamp(0, 1)

    return denoise
