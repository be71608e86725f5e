"""Train several models and compare them: one MLflow run that holds the table and the figure, one child a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from pipeline.config import Config
from pipeline.reports import figures
from pipeline.reports.tables import markdown_table
from pipeline.stages.evaluate import evaluate, reference_noises
from pipeline.stages.inputs import TEST
from pipeline.stages.prepare import prepare
from pipeline.stages.train import find_trained, train
from pipeline.tracking import opening, store
from pipeline.tracking.run import Run, metric_text


def compare(configs: Mapping[str, Config], run: Run, force: bool = False) -> None:
    """Train and evaluate each config in a child of `run`, and log the comparison to `run`.

    A finished run that has trained the same is reused; it becomes a child if it is nobody's.

    Args:
        configs: by the name that the table and the figure give it; on the same data.
        run: the parent.
        force: train all in any case.
    """
    reports = {}
    for name, config in configs.items():
        prepare(config)
        found = None if force else find_trained(config)
        with opening.adopt_run(found, config, run.id) if found else opening.start_run(config, run.id) as child:
            click.echo(f"compare: {name}: run {child.id}")
            train(config, child)
            evaluate(config, child, force=force)
            with child.artifact(TEST) as path:
                reports[name] = {**json.loads(path.read_text()), "run": child.facts()}

    levels = [noise.label for noise in reference_noises(next(iter(configs.values())))]
    table = _table(reports, levels)
    run.log_text(table, "comparison.md")
    run.log_dict(reports, "comparison.json")
    for name, report in reports.items():
        for level in levels:
            psnr = report["results"][level]["denoised"]["psnr"]
            run.log_metrics({store.noise_metric(f"psnr_{metric_text(name)}", level): psnr})

    first = next(iter(reports.values()))["curve"]
    curves = {name: report["curve"]["psnr"]["denoised"] for name, report in reports.items()}
    title = f"Gaussian noise, {first['images']:,} test images"
    run.log_figure(
        figures.quality_comparison(
            first["variances"], {**curves, "input, clipped to [0, 1]": first["psnr"]["clipped"]}, title
        ),
        "comparison",
    )
    run.describe(table)
    click.echo(
        f"compare: PSNR in dB on the test images, by variance of Gaussian noise (run {run.id})\n{table}", nl=False
    )


def _table(reports: Mapping[str, Mapping[str, Any]], levels: Sequence[str]) -> str:
    """Markdown, with the columns aligned for the terminal."""
    first = next(iter(reports.values()))["results"]
    rows = [["", *levels, "parameters", "training"]]
    rows.append(["input, clipped to [0, 1]", *(f"{first[level]['clipped']['psnr']:.2f}" for level in levels), "", ""])
    for name, report in reports.items():
        psnrs = [f"{report['results'][level]['denoised']['psnr']:.2f}" for level in levels]
        rows.append([name, *psnrs, f"{report['run']['parameters']:,}", f"{report['run']['seconds']:.0f} s"])
    return markdown_table(rows)
