"""A trial for every combination of options."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from pipeline.config import Config, DataFacts
from pipeline.errors import PipelineError
from pipeline.trials.running import Trial, trial_name

MOST_TRIALS = 10_000


def grid(options: Mapping[str, Sequence[Any]], seeds: int, data: DataFacts | None = None) -> list[Trial]:
    """A trial for every combination of the options' values, with each of several seeds.

    Args:
        options: one or more values of every option of `run` that decides its result; only one of `seed`.
        seeds: how many, counted up from the one given.
        data: facts about the prepared data; None before they are prepared, to check the options by themselves.

    Raises:
        PipelineError: options that do not go together, or more than `MOST_TRIALS`.
    """
    count = seeds * math.prod(len(values) for values in options.values())
    if count > MOST_TRIALS:
        raise PipelineError(f"the sweep has {count:,} trials; at most {MOST_TRIALS:,} are allowed")
    swept = [name for name, values in options.items() if len(values) > 1]
    trials: dict[str, Trial] = {}
    for combination in product(*options.values()):
        chosen = dict(zip(options, combination, strict=True))
        config = Config(**chosen)
        config = config.settled(data) if data else config
        group = " ".join(f"{name}={chosen[name]}" for name in swept) or config.model_name
        for seed in range(config.seed, config.seed + seeds):
            trial = replace(config, seed=seed)
            trials[trial.to_json()] = Trial(trial_name(trial, {name: chosen[name] for name in swept}), group, trial)
    return list(trials.values())
