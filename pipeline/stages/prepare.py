"""Stage 1, prepare: verify the files of a dataset, split its images, and write them in a form ready for training."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from pipeline.config import AUTO, Config
from pipeline.data.prepared import (
    PARTS,
    Chosen,
    PreparedData,
    load_prepared,
    prepared_folder,
    prepared_lock,
    read_manifest,
    write_prepared,
)
from pipeline.data.sources import DATASETS, Division, Source, open_source
from pipeline.errors import PipelineError, counted
from pipeline.models import other_modules
from pipeline.text import say
from pipeline.tracking.fingerprint import describe_changes, fingerprint

VALIDATION_SHARE = 0.2  # of the images that are not test images: the 80/20 split of the course page
TEST_SHARE = 1 / 7  # of a dataset without test images of its own: as in MNIST, 10,000 of 70,000


def prepare(config: Config, force: bool = False) -> PreparedData:
    """Prepare `config.dataset` under `config.data_dir`, or verify and reuse the result of an earlier call.

    From a dataset without test images of its own, one scene in seven becomes a test scene, whatever the seed. The
    others are shuffled by `config.seed`; without validation images of the dataset's own, the first 80 % are for
    training. Scenes that belong together stay together.

    Args:
        config: of the run.
        force: prepare again even if no input changed.

    Raises:
        PipelineError: a file is missing, damaged or cannot be downloaded, or there are too few images.
    """
    prepared_folder(config).parent.mkdir(parents=True, exist_ok=True)
    with prepared_lock(config):  # a second process waits, then reuses the result
        return _prepare(config, force)


def find_prepared(config: Config) -> PreparedData | None:
    """What `prepare` would reuse, if anything; it says so, or what has changed. Writes nothing.

    Raises:
        PipelineError: there is no such dataset, or it does not take the options.
    """
    return _reuse(config, open_source(config))


def check_images(config: Config) -> None:
    """Make sure that `prepare` would take the images of a folder, by reading them. Writes nothing.

    Raises:
        PipelineError: what `prepare` would end with.
    """
    if config.dataset in DATASETS:  # is known to be good, and may not be downloaded yet
        return
    with tempfile.TemporaryDirectory() as scratch:
        division = open_source(config).divide(config.channels, Path(scratch))
        if division.fault:
            raise PipelineError(f"{config.dataset}: {division.fault}")
        split(division, config)


def _prepare(config: Config, force: bool) -> PreparedData:
    source = open_source(config)
    data = None if force else _reuse(config, source)
    if data is None:
        division = source.divide(config.channels, prepared_folder(config).parent)
        for line in division.lines:
            say(f"prepare: {config.dataset}: {line}")
        if division.fault:
            raise PipelineError(f"{config.dataset}: {division.fault}")
        labels = source.test_labels() if division.test is not None else None
        found = {"found": division.lines, "one_capture": division.one_capture}
        data = write_prepared(config, split(division, config), labels, {**_facts(config, source), **found})
        say(f"prepare: {config.dataset}: {data.describe()}, in {prepared_folder(config)}")
    return data


def _facts(config: Config, source: Source) -> dict[str, Any]:
    """What the prepared data follow from; if nothing of it has changed, they can be reused."""
    channels = 1 if config.channels == AUTO and config.dataset in DATASETS else config.channels
    return {
        "dataset": config.dataset,
        "origin": source.origin,
        "licence": source.licence,
        **{option: getattr(config, option) for option in ("noisy", "group", "white", "black")},
        "channels": channels,
        "seed": config.seed,
        "split": "numpy.random.default_rng(seed).permutation of the scenes that are not test scenes; "
        f"the first {1 - VALIDATION_SHARE:.0%} train, the rest validate",
        "inputs": source.inputs(),
        "source": fingerprint(
            "pipeline.stages.prepare",
            packages=("numpy", "pillow", "tifffile"),
            ignore=other_modules(),
            added=DATASETS.modules([config.dataset]),
        ),
    }


def _reuse(config: Config, source: Source) -> PreparedData | None:
    """The data that an earlier call prepared, if they follow from the same facts and nothing is damaged."""
    try:
        manifest = read_manifest(config)
        if manifest is None:
            return None
        facts = _facts(config, source)
        changed = [key for key, value in facts.items() if key != "source" and manifest.get(key) != value]
        if source_changes := describe_changes(facts["source"], manifest.get("source", {})):
            changed.append(source_changes)
        if changed:
            say(f"prepare: {config.dataset}: preparing again, changed: {', '.join(changed)}")
            return None
        data = load_prepared(config)
    except PipelineError as error:
        say(f"prepare: {config.dataset}: preparing again: {error}")
        return None
    say(f"prepare: {config.dataset}: reusing {data.describe()} in {prepared_folder(config)}, verified")
    return data


def split(division: Division, config: Config) -> dict[str, Chosen]:
    """Divide a dataset into the parts `train`, `validation` and `test`, each with the numbers of its scenes.

    Args:
        division: the parts that the dataset has.
        config: its seed decides which scenes train and which validate.

    Raises:
        PipelineError: there are too few images, or too few groups of them.
    """
    given = {"train": division.train, "validation": division.validation, "test": division.test}
    chosen = {name: (part, np.arange(part.scene_count)) for name, part in given.items() if part is not None}
    groups = chosen["train"][1] if division.groups is None else division.groups
    left = np.arange(groups.max() + 1 if len(groups) else 0)
    missing = len(PARTS) - len(chosen)
    if len(left) <= missing:
        _refuse_few(config, sum(len(numbers) for _, numbers in chosen.values()), len(left), missing)
    if division.test is None:
        # The same for every seed, so that runs with different seeds can be compared.
        left = np.random.default_rng(0).permutation(len(left))
        count = _how_many(groups, left, TEST_SHARE, at_most=len(left) - missing)
        chosen["test"] = division.train, _scenes(groups, left[:count])
        left = left[count:]
    left = left[np.random.default_rng(config.seed).permutation(len(left))]
    if division.validation is None:
        count = _how_many(groups, left[::-1], VALIDATION_SHARE, at_most=len(left) - 1)
        chosen["validation"] = division.train, _scenes(groups, left[-count:])
        left = left[:-count]
    return {**chosen, "train": (division.train, _scenes(groups, left))}


def _how_many(groups: np.ndarray, order: np.ndarray, share: float, at_most: int) -> int:
    """How many groups, from the first in `order`, have about a share of the scenes of all in `order`; at least one."""
    sizes = np.bincount(groups)[order]
    wanted = max(1, round(sizes.sum() * share))
    return min(1 + int(np.abs(sizes.cumsum() - wanted).argmin()), at_most)


def _scenes(groups: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The numbers of the scenes in some groups, in the order of these."""
    places = np.full(groups.max() + 1, -1)
    places[order] = np.arange(len(order))
    places = places[groups]
    scenes = np.flatnonzero(places >= 0)
    return scenes[places[scenes].argsort(kind="stable")]


def _refuse_few(config: Config, scenes: int, groups: int, missing: int) -> NoReturn:
    belong = "" if groups == scenes or missing < 2 else f" in {counted(groups, 'group')} kept together"
    raise PipelineError(
        f"dataset '{config.dataset}' has {counted(scenes, 'image')}{belong}; it needs at least {len(PARTS)}"
        f"{' groups' if belong else ''}, one each for training, validation and test"
    )
