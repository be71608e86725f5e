"""The model card and the report: what they say of a model, without training one."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from pipeline.config import Config
from pipeline.denoising.familiarity import Limits
from pipeline.handoff.card import model_card
from pipeline.handoff.description import Description
from pipeline.handoff.parity import Report
from pipeline.handoff.report import run_report
from pipeline.training.checkpoint import Checkpoint
from pipeline.verification.gates import Gate

REPORT = Report([Gate("opset", "model.onnx", "18", "18", True)] * 249, 1.52e-6, 30.1234)


def describe(psnr: float = 30.1234, **settings: Any) -> Description:
    """A model for noise of variance 0.01 (or `settings`), with a made-up quality."""
    config, channels = Config(**settings), int(settings.get("channels", 1))
    clean = {"psnr": psnr, "ssim": 0.9635, "accuracy": 0.99}
    scores = {"noisy": {"psnr": 20.011}, "clipped": {"psnr": 22.66}, "denoised": clean}
    return Description(
        name="digits",
        config=config,
        run_id="0123abcd",
        fingerprint="f" * 64,
        checkpoint=Checkpoint("autoencoder", "", channels, 7, 0.001, {"weight": torch.zeros(2)}),
        parameters=16385,
        dataset={"digest": "d" * 64, "licence": "CC BY-SA 3.0", "origin": "Digits & <letters>"},
        test_images=10_000,
        halo=16,
        familiar=Limits(0.05, 0.31),
        accepted=(-2.0, 3.0),
        scores={"0.1": scores, config.training_noise.label: scores},
        commit=None,
    )


def file(variant: str, dtype: str, **facts: object) -> dict[str, Any]:
    """What the manifest says of an ONNX file."""
    name = "model.onnx" if variant == "float32" else f"model_{variant}.onnx"
    common = {"variant": variant, "summary": "a form", "file": name, "bytes": 71351, "input": {"dtype": dtype}}
    return {**common, "test_psnr_db": {"0.01": 30.1234}, **facts}


def card(description: Description, *variants: dict[str, Any]) -> str:
    label = description.config.training_noise.label
    files = [{**entry, "test_psnr_db": {label: 30.1234}} for entry in (file("float32", "float32"), *variants)]
    return model_card(description, REPORT, files)


def test_the_card_names_the_facts() -> None:
    text = card(describe())
    for said in (
        "# Model card: digits\n",
        "Image denoiser: autoencoder trained on mnist with gaussian noise of variance 0.01.\n",
        "| input | `noisy` | float32 | [batch, 1, height, width] |",
        "values below\n-2 or above 3",
        "Mean over 10,000 test images",
        "| 0.01 (trained for) | 20.01 dB | 22.66 dB | 30.12 dB | 0.9635 |",
        "| 0.1 | 20.01 dB |",
        "epoch 7 (lowest validation loss)",
        "16,385 parameters",
        "Digits & <letters>; licence of the data: CC BY-SA 3.0",  # Markdown: nothing is escaped
        "git commit `unknown`",
        "lists 249 gates, all passed",
        "1.5e-06 (allowed: 1e-05), for inputs from -16 to 16. PSNR of the file on the test images: 30.123 dB.",
    ):
        assert said in text
    assert text.endswith("checks the files.\n")


def test_what_a_plain_number_is_stands_where_there_is_one() -> None:
    said = "A plain number is the variance of Gaussian noise"
    assert said in card(describe())
    recorded = describe(noise="recorded")
    assert said in card(recorded)  # which was scored at 0.1, too
    alone = replace(recorded, scores={"recorded": recorded.scores["recorded"]})
    assert said not in card(alone)


def test_every_file_has_a_row() -> None:
    speed = "1.02 times as many as model.onnx, on one thread"
    losses = {"0.01": 0.0634, "0.1": 0.0125}
    text = card(
        describe(),
        file("uint8", "uint8", psnr_lost_db={"0.01": 0.011}, images_per_second=speed),
        file("int8", "float32", psnr_lost_db=losses, images_per_second=speed),
    )
    assert re.findall(r"^\| `.*\.onnx.*$", text, re.MULTILINE) == [
        "| `model.onnx` | a form | float32 | 71,351 | 30.123 |  |  |",
        f"| `model_uint8.onnx` | a form | uint8 | 71,351 | 30.123 | 0.011 | {speed} |",
        f"| `model_int8.onnx` | a form | float32 | 71,351 | 30.123 | 0.063 (0.1: 0.013) | {speed} |",
    ]


CLIPPING: dict[str, dict[str, Any]] = {
    "Do not clip the input": {},
    "Clip the input to [0, 1]: the model was trained on clipped input": {"clip_input": True},
    "Clip the input to [0, 1] or do not": {"noise": "gaussian:variance=0.01,clip=0.5"},
}


@pytest.mark.parametrize("advice", CLIPPING)
def test_the_advice_on_clipping_is_that_of_the_training(advice: str) -> None:
    text = card(describe(**CLIPPING[advice]))
    assert [said for said in CLIPPING if said in text] == [advice]
    # Only a model that has never seen clipped images has a limit there.
    assert ("stored with 8 bits is clipped and rounded" in text) == (advice == "Do not clip the input")


def test_limits_that_not_every_model_has() -> None:
    usual = card(describe())
    assert "worse than the clipped input" not in usual
    assert "Do not use it to denoise" not in usual
    assert "With noise 0.1 and 0.01 the output is worse than the clipped input" in card(describe(psnr=22.0))
    assert "Do not use it to denoise" in card(describe(target="noisy"))


def test_the_report_names_the_facts_and_escapes_them() -> None:
    figures = {"loss": b"loss", "denoised": b"denoised", "other": b"other"}
    page = run_report(describe(lr=0.003), REPORT, figures, {"bm3d": {"0.1": 24.5}}, {"served by": "mlflow & co"})
    for said in (
        "<title>autoencoder-var0.01-seed0</title>",
        "(autoencoder, 16,385 parameters)",
        "passed all 249 gates",
        "<td>Digits &amp; &lt;letters&gt;</td>",
        "<td>git commit</td><td>unknown</td>",
        "<td>lr</td><td>0.003</td>",
        "<td>served by</td><td>mlflow &amp; co</td>",
        "<tr><th>noise</th><th>input</th><th>clipped</th><th>bm3d</th><th>denoised</th><th>SSIM</th>",
        "<td>0.1</td><td>20.01</td><td>22.66</td><td>24.50</td><td>30.12</td><td>0.9635</td><td>99.00%</td>",
        "<td>0.01</td><td>20.01</td><td>22.66</td><td></td><td>30.12</td>",
    ):
        assert said in page, said
    captions = re.findall('alt="(.*?)"', page)
    assert captions == ["The first test images: noisy, denoised, clean, and what was removed", "The learning curve"]


def test_the_report_names_a_target_that_is_not_the_clean_image() -> None:
    assert "compared with" not in run_report(describe(), REPORT, {}, {}, {})
    assert ", compared with a second noisy draw" in run_report(describe(target="noisy2noisy"), REPORT, {}, {}, {})


def test_the_same_run_gives_the_same_metadata() -> None:
    description = describe()
    metadata = description.metadata()
    assert metadata == replace(description, fingerprint="other").metadata()
    assert metadata["input_layout"] == "NCHW, 1 channel, any height and width"
    assert metadata["accepted_range"] == "-2 3"
    assert metadata["clip_input"] == "false"
    assert metadata["test_psnr_db"] == "30.1234"
    assert all(isinstance(value, str) for value in metadata.values())
    assert describe(channels=3).metadata()["input_layout"] == "NCHW, 3 channels (RGB), any height and width"
