"""Train several models and compare them: one MLflow run that holds the table and the figure, one child a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from pipeline import figures, tracking
from pipeline.config import REFERENCE_VARIANCES, Config
from pipeline.stages.evaluate import evaluate
from pipeline.stages.inputs import TEST
from pipeline.stages.prepare import prepare
from pipeline.stages.train import train
from pipeline.tracking import Run


def compare(configs: Mapping[str, Config], run: Run) -> None:
    """Train and evaluate each config in a child of `run`, and log the comparison to `run`.

    Args:
        configs: by the name that the table and the figure give it; on the same data.
        run: the parent.
    """
    reports = {}
    for name, config in configs.items():
        with tracking.start_run(config) as child:
            click.echo(f"compare: {name}: run {child.id}")
            prepare(config)
            train(config, child)
            evaluate(config, child)
            with child.artifact(TEST) as path:
                reports[name] = {**json.loads(path.read_text()), "run": child.facts()}

    table = _table(reports)
    run.log_text(table, "comparison.md")
    run.log_dict(reports, "comparison.json")
    for name, report in reports.items():
        for variance in REFERENCE_VARIANCES:
            psnr = report["results"][f"{variance:g}"]["denoised"]["psnr"]
            run.log_metrics({tracking.noise_metric(f"psnr_{tracking.metric_text(name)}", f"{variance:g}"): psnr})

    first = next(iter(reports.values()))["curve"]
    curves = {name: report["curve"]["psnr"]["denoised"] for name, report in reports.items()}
    title = f"Gaussian noise, {first['images']:,} test images"
    run.log_figure(
        figures.psnr_comparison(
            first["variances"], {**curves, "input, clipped to [0, 1]": first["psnr"]["clipped"]}, title
        ),
        "comparison",
    )
    run.describe(table)
    click.echo(
        f"compare: PSNR in dB on the test images, by variance of Gaussian noise (run {run.id})\n{table}", nl=False
    )


def _table(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown, with the columns aligned for the terminal."""
    labels = [f"{variance:g}" for variance in REFERENCE_VARIANCES]
    first = next(iter(reports.values()))["results"]
    rows = [["", *labels, "parameters", "training"]]
    rows.append(["input, clipped to [0, 1]", *(f"{first[label]['clipped']['psnr']:.2f}" for label in labels), "", ""])
    for name, report in reports.items():
        psnrs = [f"{report['results'][label]['denoised']['psnr']:.2f}" for label in labels]
        rows.append([name, *psnrs, f"{report['run']['parameters']:,}", f"{report['run']['seconds']:.0f} s"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| "
        + " | ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 1) + (":" if i else "-") for i, width in enumerate(widths)) + "|")
    return "\n".join(lines) + "\n"
