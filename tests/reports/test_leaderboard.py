"""The leaderboard on runs made here: which may be compared, in what order, and what changed from one to another."""

from __future__ import annotations

import math
from typing import Any

import pytest
from conftest import terminal
from mlflow.entities import Metric, Param, Run, RunData, RunInfo, RunTag

from pipeline.errors import PipelineError
from pipeline.models import build_model, count_parameters
from pipeline.models.facts import multiply_adds_per_pixel
from pipeline.reports.comparison_tables import board, importance, notes_on, records
from pipeline.reports.difference import difference
from pipeline.reports.leaderboard import EvaluatedRun, Kind, grouped, pareto, read_run, worse_than_nothing
from pipeline.reports.tables import printed_table
from pipeline.tracking import names, scores

SUMMARY = {
    "noisy": {"psnr": 20.0, "mse": 0.01, "ssim": 0.5},
    "clipped": {"psnr": 22.5, "mse": 0.005, "ssim": 0.6},
    "denoised": {"psnr": 30.0, "mse": 0.001, "psnr_pooled": 29.9, "ssim": 0.9, "accuracy": 0.5},
}


def a_run(
    number: int = 1,
    psnr: float = 30.0,
    status: str = "FINISHED",
    params: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    metrics: dict[str, float] | None = None,
) -> Run:
    """A run as MLflow returns it; what is given is added to the usual values, or replaces them."""
    run_id = f"{number:032x}"
    own = {
        "noise": "gaussian",
        "variance": "0.01",
        "model": "unet",
        "seed": "0",
        "loss": "mse",
        names.PARAMETERS: "1000",
    }
    facts = {
        **{names.MODEL: "unet", names.DATASET: "mnist", names.DATASET_SHA256: "d" * 64, names.WEIGHTS: "w" * 64},
        names.TEST_IMAGES_SHA256: "t" * 64,
    }
    values = {
        names.TRAIN_SECONDS: 12.0,
        **{names.noise_metric("psnr", level): psnr for level in ("0.001", "0.01", "0.1", "poisson-peak30")},
        **{names.noise_metric("ssim", level): 0.9 for level in ("0.001", "0.01", "0.1", "poisson-peak30")},
    }
    return Run(
        RunInfo(run_id, "0", "me", status, 0, 1, "active", run_name=f"run-{number}"),
        RunData(
            [Metric(key, value, 0, 0) for key, value in {**values, **(metrics or {})}.items()],
            [Param(key, value) for key, value in {**own, **(params or {})}.items()],
            [RunTag(key, value) for key, value in {**facts, **(tags or {})}.items()],
        ),
    )


def read(*arguments: Any, **options: Any) -> EvaluatedRun:
    return read_run(a_run(*arguments, **options))


def test_what_is_read_of_a_run() -> None:
    found = read(7, 31.5, metrics={names.noise_metric("psnr", "0.1"): 22.0})
    assert (found.id, found.name, found.model) == (f"{7:032x}", "run-7", "unet")
    assert (found.psnr, found.scores["ssim"], found.parameters, found.seconds) == (31.5, 0.9, 1000, 12.0)
    assert found.levels["psnr"] == {"0.001": 31.5, "0.01": 31.5, "0.1": 22.0}
    assert found.noise == "gaussian noise of variance 0.01"
    assert (found.multiply_adds, found.milliseconds) == (None, None)  # no U-Net has 1,000 parameters
    for channels, spec in ((1, "unet"), (3, "unet:width=8")):
        model = build_model(spec, channels=channels)
        params = {"model": spec, names.PARAMETERS: str(count_parameters(model))}
        assert read(params=params).multiply_adds == multiply_adds_per_pixel(model, channels)
    assert read(params={"noise": "poisson:peak=30"}, metrics={"test/psnr/poisson-peak30": 9.0}).psnr == 9


def test_runs_have_the_figures_of_their_own_noise_by_names_without_a_label() -> None:
    metrics = scores.by_noise({"0.01": SUMMARY}) | scores.at_training_noise(SUMMARY)
    assert metrics == {
        **{"test/psnr/0.01": 30.0, "test/psnr": 30.0, "test/ssim": 0.9, "test/accuracy": 0.5, "test/psnr_gain": 7.5}
    }
    run = read(metrics=metrics)
    assert (run.quality.output, run.quality.input) == (30.0, 22.5)
    assert run.scores == {"psnr": 30.0, "ssim": 0.9, "accuracy": 0.5}


def test_runs_of_former_versions_have_them_by_the_label_of_their_noise() -> None:
    former = {
        "test/psnr/0.01": 30.0,
        "test/ssim/0.01": 0.9,
        "test/psnr_clipped/0.01": 22.5,
        "test/psnr_noisy/0.01": 20.0,
    }
    run = read(metrics=former)
    assert (run.quality.output, run.quality.input, run.scores["ssim"]) == (30.0, 22.5, 0.9)


def test_what_mlflow_run_logged_as_it_was_typed_is_read_as_it_was_used() -> None:
    typed = {"variance": "1e-2", "lr": "1e-3", "clip_input": "false", "size": "''", "seed": "1", "channels": "auto"}
    logged = {"variance": "0.01", "lr": "0.001", "clip_input": "False", "size": "", "channels": "auto"}
    (kinds,) = grouped([read(1, params=typed), read(2, params=logged)])
    assert [len(kind.runs) for kind in kinds] == [2]  # they differ in the seed alone
    clipped = read(params={"clip_input": "true"}, metrics=dict.fromkeys(CLIPPED, 31.0))
    assert "clipped" in clipped.noise
    # Beside a sigma, former versions logged a default.
    assert read(tags={names.VARIANCE: "0.1"}).noise == "gaussian noise of variance 0.1"


CLIPPED = [names.noise_metric("psnr", f"{level}-clipped") for level in ("0.001", "0.01", "0.1")]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (a_run(status="FAILED"), "it is FAILED"),
        (a_run(params={"clip_input": "True"}), "it was not evaluated: it has no test/psnr/0.01-clipped"),
        (a_run(metrics={"test/ssim/0.1": math.nan}), "it has a test/ssim/0.1 of nan"),
        (a_run(metrics={"test/psnr/0.1": math.inf}), "it has a test/psnr/0.1 of inf"),
    ],
)
def test_a_run_that_cannot_be_compared_says_why(run: Run, message: str) -> None:
    with pytest.raises(PipelineError) as error:
        read_run(run)
    assert str(error.value) == message


def test_a_run_without_a_model_is_none() -> None:
    run = a_run()
    del run.data.tags[names.WEIGHTS]
    with pytest.raises(PipelineError, match="it holds no model"):
        read_run(run)


def test_runs_are_grouped_by_test_images_and_noise_the_best_first() -> None:
    runs = [
        read(1, 28.0, params={"lr": "1"}),
        read(2, 33.0, params={"noise": "poisson:peak=30"}),
        read(3, 30.0, tags={names.DATASET_SHA256: "e" * 64}),  # another split, the same test images
        read(4, 31.0, tags={names.TEST_IMAGES_SHA256: "u" * 64}),
        read(5, 29.0, params={"lr": "2"}),
    ]
    assert [[int(kind.best.id, 16) for kind in kinds] for kinds in grouped(runs)] == [[3, 5, 1], [2], [4]]


def test_the_digest_of_all_images_stands_in_for_that_of_the_test_images() -> None:
    """Runs of the first versions have no other."""
    run = a_run()
    del run.data.tags[names.TEST_IMAGES_SHA256]
    assert read_run(run).group[0] == "d" * 64


def test_the_front_is_what_nothing_cheaper_beats() -> None:
    sizes = {1: (100, 28.0), 2: (100, 29.0), 3: (500, 29.0), 4: (900, 31.0), 5: (950, 30.5)}
    kinds = [Kind([read(number, psnr, params={names.PARAMETERS: str(size)})]) for number, (size, psnr) in sizes.items()]

    def front(spread: float = 0) -> list[int]:
        return [int(kind.best.id, 16) for kind in pareto(kinds, lambda kind: kind.best.parameters, lambda kind: spread)]

    assert front() == [2, 4]
    assert front(spread=50) == [2, 4]
    assert front(spread=400) == [4]  # all cost the same, as far as one knows
    assert pareto([], lambda kind: kind.best.parameters) == []


def test_the_table_has_a_column_for_what_differs() -> None:
    clipped = {names.noise_metric("psnr_clipped", "0.01"): 22.66}
    runs = [
        read(1, 31.234, params={"lr": "0.1", "seed": "3", "device": "cpu"}, metrics=clipped),
        read(2, 30.0, params={"lr": "0.2", names.PARAMETERS: "900", "data_dir": "elsewhere", "device": "cuda"}),
        read(3, 29.0, params={"lr": "0.2", names.PARAMETERS: "12000"}),
    ]
    (kinds,) = grouped(runs)
    assert notes_on(kinds) == ["* the best of the runs here that have no more parameters"]
    head, first, second, third = board(kinds)
    assert head == [
        *("", "run", "model", "seed", "input", "PSNR", "gain", "SSIM", "verdict", "PSNR at 0.001", "PSNR at 0.1"),
        *("parameters", "multiply-adds per pixel", "training", "run id", "lr"),
    ]
    assert first == [
        *("1 *", "run-1", "unet", "3", "22.66", "31.23", "+8.57", "0.9000", "better than its input", "31.23", "31.23"),
        *("1,000", "", "12 s", "00000000", "0.1"),
    ]
    assert (second[0], second[4], second[6], second[8]) == ("2 *", "", "", "not known")
    assert (second[-5], second[-1]) == ("900", "0.2")
    assert third[0] == "3"  # two others are better with fewer parameters

    # In a terminal, what one came for stays, and the columns of the parameters that differ go last.
    with terminal(80):
        narrow, *_, left_out = printed_table(board(kinds), "--format csv prints all", importance(head))
    assert len(narrow) <= 80
    shown_heads = [cell.strip() for cell in narrow.strip("|").split("|")]
    assert shown_heads == ["", "run", "model", "seed", "input", "PSNR", "gain", "SSIM", "run id", "lr"]
    assert left_out.startswith("To fit 80 characters, left out: verdict, PSNR at 0.001, PSNR at 0.1, parameters,")

    # The same for programs.
    rows = records([kinds])
    assert [list(row) for row in rows] == 3 * [list(rows[0])]
    assert [(row["place"], row["run"], row["psnr"], row["lr"]) for row in rows] == [
        *((1, "run-1", 31.234, 0.1), (2, "run-2", 30.0, 0.2), (3, "run-3", 29.0, 0.2)),
    ]
    assert (rows[0]["input_psnr"], rows[0]["gain"], rows[1]["gain"]) == (22.66, pytest.approx(8.574), None)
    assert (rows[0]["seed"], rows[0]["psnr_at_0.001"], rows[0]["ms_per_image"]) == (3, 31.234, None)


def test_a_run_that_is_worse_than_its_input_never_ranks() -> None:
    """Here by half a decibel; among runs that nobody knows the input of, and alone."""
    worse = read(1, 22.0, metrics={names.noise_metric("psnr_clipped", "0.01"): 22.5})
    (kinds,) = grouped([worse, read(2, 12.0, params={"lr": "2"}), read(3, 11.0, params={"lr": "3"})])
    assert [(row[0], row[1]) for row in board(kinds)[1:]] == [("1 *", "run-2"), ("2", "run-3"), ("", "run-1")]
    assert board(kinds)[3][8] == "no better than its input"
    assert [row["place"] for row in records([kinds])] == [1, 2, None]
    (alone,) = grouped([worse])
    assert board(alone)[1][0] == ""
    assert notes_on(alone) == pareto(alone, lambda kind: kind.best.parameters) == []


def test_runs_that_differ_in_the_seed_are_one_row() -> None:
    clipped = {names.noise_metric("psnr_clipped", "0.01"): 20.0}
    psnrs = {0: 30.0, 1: 31.0, 10: 32.0}
    runs = [
        read(seed + 1, psnr, params={"seed": str(seed), "device": f"cuda:{seed}"}, metrics=clipped)
        for seed, psnr in psnrs.items()
    ]
    (kinds,) = grouped([*runs, read(20, 30.5, metrics=clipped), read(30, 30.9, params={"lr": "2"}, metrics=clipped)])
    _, first, second, third = board(kinds)
    assert first[:7] == ["1 *", "run-11", "unet", "0, 1, 10", "20.00", "31.17 ± 0.76", "+11.17 ± 0.76"]
    assert (second[1], second[5]) == ("run-30", "30.90")
    assert (third[1], third[3], third[5]) == ("run-1", "0", "30.00")  # its seed is there already
    assert len(notes_on(kinds)) == 2
    assert [row["place"] for row in records([kinds])] == [1, 1, 1, 2, 3]

    many = [read(40 + seed, 30.0, params={"seed": str(seed)}) for seed in range(6)]
    assert board(grouped(many)[0])[1][3] == "6 seeds"

    # If it takes luck to be better than the input, that is said, and is no first place.
    unlucky = read(4, 19.0, params={"seed": "4"}, metrics=clipped)
    (kinds,) = grouped([*runs, unlucky, read(30, 20.1, params={"lr": "2"}, metrics=clipped)])
    assert [(row[0], row[1], row[8]) for row in board(kinds)[1:]] == [
        ("1 *", "run-30", "better than its input"),
        ("", "run-11", "1 of 4 no better than the input"),
    ]


def test_the_difference_names_options_tags_and_psnr() -> None:
    former = read(1, 30.0, params={"lr": "0.1", "data_dir": "here"}, tags={names.GIT_COMMIT: "a" * 40})
    latter = read(2, 30.5, params={"lr": "0.2", "data_dir": "there", "crop": "64"}, tags={names.WEIGHTS: "x" * 64})
    assert difference(former, latter, [former, latter]) == [
        "lr: 0.1 -> 0.2",
        "crop: not set -> 64",
        f"code (git commit): {'a' * 12} -> unknown",
        f"weights: {'w' * 12} -> {'x' * 12}",
        "PSNR: 30.00 -> 30.50 dB (+0.50)",
        "the effect of the seed is unknown: it takes at least two seeds of each",
    ]


def test_psnrs_with_other_noise_are_not_subtracted() -> None:
    lines = difference(read(1), read(2, params={"noise": "poisson:peak=30"}), [])
    assert lines == [
        "noise: gaussian -> poisson:peak=30",
        "the data or the noise differ, so the PSNRs cannot be compared",
    ]
    strong = {"test/psnr_clipped/0.01": 15.0}
    lines = difference(
        read(1, metrics={"test/psnr_clipped/0.01": 22.0}),
        read(2, tags={names.TEST_IMAGES_SHA256: "2"}, metrics=strong),
        [],
    )
    assert lines[-1] == "gain over the clipped input: +8.00 -> +15.00 dB (+7.00)"


@pytest.mark.parametrize(("gain", "size"), [(0.3, "more"), (0.2, "no more")])
def test_a_gain_counts_if_it_is_more_than_twice_the_spread_over_seeds(gain: float, size: str) -> None:
    # Two seeds each, 0.1 dB apart: variance 0.005 each, so a spread of 0.1 dB, twice of which is 0.2 dB.
    former = [read(seed, 30 + 0.1 * seed, params={"lr": "0.1", "seed": str(seed)}) for seed in (0, 1)]
    latter = [read(9 + seed, 30 + gain - 1e-9 + 0.1 * seed, params={"lr": "0.2", "seed": str(seed)}) for seed in (0, 1)]
    others = [read(20, 10.0, params={"lr": "0.1", "crop": "64", "seed": "5"}), read(21, 10.0, status="FINISHED")]
    line = difference(former[0], latter[0], [*former, *latter, *others])[-1]
    assert line == (
        f"over 2 and 2 seeds: 30.05 -> {30.05 + gain:.2f} dB, {size} than twice the spread over seeds (0.10 dB)"
    )


KNOWN = ("recorded", "recorded:sigma=0.1")


def recorded(number: int, found: dict[str, float]) -> EvaluatedRun:
    metrics = {names.noise_metric(name, "recorded"): value for name, value in found.items()}
    return read(number, params={"noise": "recorded"}, metrics=metrics)


def test_runs_on_bursts_have_estimates() -> None:
    estimates = {
        "mse_estimated": 0.001,
        "psnr_estimated": 30.0,
        "psnr_standard_error": 0.12,
        "mse_estimated_clipped": 0.01,
    }
    runs = [
        recorded(1, {**estimates, "psnr_estimated_clipped": 20.0}),
        recorded(2, {"mse_estimated": -1e-6, "psnr_at_least": 41.5, "mse_estimated_clipped": 0.01}),
    ]
    head, first, second = board(grouped(runs)[0])
    assert head[4:8] == ["input", "estimated PSNR", "gain", "how sure"]
    assert not any("at 0.01" in name for name in head)
    assert (first[4:7], "lower bound" in first[7]) == (["", "41.50", ""], True)
    assert second[4:8] == ["20.00", "30.00", "+10.00", "standard error 0.12 dB"]
    assert first[8] == second[8] == "better than its input"


def test_a_level_that_is_known_makes_no_other_noise() -> None:
    estimates = {"mse_estimated": 0.001, "psnr_estimated": 30.0, "mse_estimated_clipped": 0.01}
    metrics = {names.noise_metric(name, "recorded"): value for name, value in estimates.items()}
    runs = [read(number, params={"noise": noise}, metrics=metrics) for number, noise in enumerate(KNOWN)]
    assert [len(group) for group in grouped(runs)] == [2]


def test_runs_on_single_noisy_images_have_levels_and_no_rank() -> None:
    before = {f"{name}_{of}": 0.1 for name in ("sigma", "contrast", "noise") for of in ("noisy", "clipped")}
    good = {"sigma": 0.01, "contrast": 0.3, "removed": 0.1, "whiteness": 0.02}
    runs = [recorded(1, {**before, **good}), recorded(2, {**before, **good, "removed": 0.3})]
    assert notes_on(grouped(runs)[0]) == []
    head, first, second = board(grouped(runs)[0])
    assert head[4:8] == ["noise before", "noise after", "removed", "its whiteness"]
    assert first[0] == second[0] == ""
    assert second[4:8] == ["0.1000", "0.0100", "0.3000", "0.020"]
    assert (first[8], second[8]) == ("less noise than its input", "no better than its input")
    (line,) = worse_than_nothing(grouped(runs)[0])
    assert line.startswith(
        "run-2 (00000000): The output is no better than the clipped input: what was removed (0.3000)"
    )
    assert "cannot be ranked" in difference(runs[0], runs[1], runs)[-1]


def test_a_run_that_is_worse_than_doing_nothing_is_named() -> None:
    clipped = {names.noise_metric("psnr_clipped", "0.01"): 22.66}
    (line,) = worse_than_nothing(
        [Kind([read(1, 30.0, metrics=clipped), read(2, 12.0, metrics=clipped)]), Kind([read(3, 12.0)])]
    )
    assert line == (
        "run-2 (00000000): The output is no better than the clipped input: PSNR 12.00 dB, clipped input 22.66 dB."
    )
