"""What `run` ends with: how good the model is, and where to find what came out."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.text import say
from pipeline.tracking import console

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.tracking.run import OpenRun

_LABEL = 10  # characters of the first column


def facts_of(run: OpenRun, config: Config, folder: Path | None) -> dict[str, str]:
    """What a person wants to know of a run, by what it is called.

    Args:
        run: which is evaluated.
        config: of the run.
        folder: of the hand-off; None if the model was not good enough for one.
    """
    from pipeline.files import read_json
    from pipeline.scoring.quality import PSNR, Quality
    from pipeline.tracking import names, store

    label = config.training_noise.label
    with run.artifact(names.EVALUATION) as path:
        scores = read_json(path)["results"][label]
    quality = Quality.of(scores)
    facts = {"quality": quality.text}
    if quality.metric == PSNR and not math.isnan(quality.gain):
        facts = {
            "PSNR in": f"{scores['noisy'][PSNR]:.2f} dB, clipped to [0, 1] {quality.input:.2f} dB",
            "PSNR out": f"{quality.output:.2f} dB",
            "gain": f"{quality.gain:+.2f} dB over the clipped input",
        }
    if folder is not None:
        facts["hand-off"] = str(folder)
        facts["report"] = store.place_of(run.id, names.REPORT)
    return facts


def say_end(run_id: str, facts: Mapping[str, str]) -> None:
    """Print facts in two columns, and the run; with `--quiet`, only the ID of the run.

    On a narrow terminal, what is too long stands in a line of its own.
    """
    width = shutil.get_terminal_size().columns
    label = max(_LABEL, *map(len, facts)) + 2
    say("")
    for name, text in facts.items():
        if label + len(text) <= width:
            say(f"{name:<{label}}{text}")
        else:
            say(name, f"  {text}")
    console.say_result(f"run: {run_id}; look at it with: python -m pipeline ui", run_id)
