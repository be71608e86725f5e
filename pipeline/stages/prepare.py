"""Stage 1, prepare: verify the files of a dataset, split its images, and write them in a form ready for training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from pipeline.config import AUTO, Config
from pipeline.data.images import Images, Part
from pipeline.data.prepared import (
    Chosen,
    PreparedData,
    load_prepared,
    prepared_folder,
    prepared_lock,
    read_manifest,
    write_prepared,
)
from pipeline.data.sources import Source, open_source
from pipeline.errors import PipelineError
from pipeline.models import other_modules
from pipeline.tracking.fingerprint import describe_changes, fingerprint

VALIDATION_SHARE = 0.2  # of the images that are not test images: the 80/20 split of the course page
TEST_SHARE = 1 / 7  # of a dataset without test images of its own: as in MNIST, 10,000 of 70,000


def prepare(config: Config, force: bool = False) -> PreparedData:
    """Prepare `config.dataset` under `config.data_dir`, or verify and reuse the result of an earlier call.

    From a dataset without test images of its own, one image in seven becomes a test image, whatever the seed. The
    others are shuffled by `config.seed`; the first 80 % are the training images.

    Args:
        config: of the run.
        force: prepare again even if no input changed.

    Raises:
        PipelineError: a file is missing, damaged or cannot be downloaded, or there are too few images.
    """
    prepared_folder(config).parent.mkdir(parents=True, exist_ok=True)
    with prepared_lock(config):  # a second process waits, then reuses the result
        return _prepare(config, force)


def _prepare(config: Config, force: bool) -> PreparedData:
    source = open_source(config.dataset, Path(config.data_dir))
    facts = _facts(config, source)
    data = None if force else _reuse(config, facts)
    if data is None:
        images, test = source.images(1 if config.channels == AUTO else int(config.channels))
        labels = source.test_labels() if test is not None else None
        data = write_prepared(config, split(images, test, config), labels, facts)
        click.echo(f"prepare: {config.dataset}: {data.describe()}, in {prepared_folder(config)}")
    return data


def _facts(config: Config, source: Source) -> dict[str, Any]:
    """What the prepared data follow from; if nothing of it has changed, they can be reused."""
    return {
        "dataset": config.dataset,
        "origin": source.origin,
        "licence": source.licence,
        "channels": config.channels,
        "seed": config.seed,
        "split": "numpy.random.default_rng(seed).permutation of the images that are not test images; "
        f"the first {1 - VALIDATION_SHARE:.0%} train, the rest validate",
        "inputs": source.inputs(),
        "source": fingerprint("pipeline.stages.prepare", packages=("numpy", "pillow"), ignore=other_modules()),
    }


def _reuse(config: Config, facts: dict[str, Any]) -> PreparedData | None:
    """The data that an earlier call prepared, if they follow from the same facts and nothing is damaged."""
    try:
        manifest = read_manifest(config)
        if manifest is None:
            return None
        changed = [key for key, value in facts.items() if key != "source" and manifest.get(key) != value]
        if source := describe_changes(facts["source"], manifest.get("source", {})):
            changed.append(source)
        if changed:
            click.echo(f"prepare: {config.dataset}: preparing again, changed: {', '.join(changed)}")
            return None
        data = load_prepared(config)
    except PipelineError as error:
        click.echo(f"prepare: {config.dataset}: preparing again: {error}")
        return None
    click.echo(f"prepare: {config.dataset}: reusing {data.describe()} in {prepared_folder(config)}, verified")
    return data


def split(images: Images, test: Images | None, config: Config) -> dict[str, Chosen]:
    """Divide a dataset into the parts `train`, `validation` and `test`.

    Args:
        images: to divide.
        test: the test images of the dataset; None: one in seven of `images` becomes a test image.
        config: its seed decides which images train and which validate.

    Raises:
        PipelineError: there are too few images.
    """
    random = np.random.default_rng(config.seed)
    others, tests = np.arange(len(images)), np.arange(len(test) if test is not None else 0)
    if test is None:
        # The same for every seed, so that runs with different seeds can be compared.
        order = np.random.default_rng(0).permutation(len(images))
        count = max(1, round(len(images) * TEST_SHARE))
        others, tests, test = order[count:], order[:count], images
    count = max(1, round(len(others) * VALIDATION_SHARE))
    if len(others) <= count or len(tests) == 0:
        raise PipelineError(
            f"dataset '{config.dataset}' has {len(others) + len(tests)} images; it needs at least 3, one each for "
            "training, validation and test"
        )
    order = others[random.permutation(len(others))]
    part = Part(images)
    return {"train": (part, order[:-count]), "validation": (part, order[-count:]), "test": (Part(test), tests)}
