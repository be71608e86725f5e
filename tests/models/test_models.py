"""Every model in the table, in every size: what it promises, and that it can be handed off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import HANG, Cli, environment
from torch import nn

from pipeline.denoising.tiling import tiled
from pipeline.handoff.onnx_file import export_onnx
from pipeline.models import MODELS, build_model, count_parameters, facts
from pipeline.models.facts import halo, multiply_adds_per_pixel, receptive_field
from pipeline.models.resunet import noise_level

VARIANTS = [(name, size) for name, entry in MODELS.items() for size in entry.sizes or ("",)] + [
    ("resunet:bias=false", ""),
    ("resunet:noise-map=true", ""),
    ("unet:width=8", ""),
    ("dncnn:depth=4,width=8", ""),
]


def _unsettled(spec: str, size: str = "", channels: int = 1) -> nn.Module:
    """A model whose layers all do something: some start at zero."""
    torch.manual_seed(0)
    model = build_model(spec, size, channels)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 4 and not parameter.any():
                nn.init.normal_(parameter, std=0.02)
    return model.eval()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("spec", "size"), VARIANTS)
@torch.no_grad()
def test_any_size_goes_through_and_comes_out_within_range(spec: str, size: str, channels: int) -> None:
    model = _unsettled(spec, size, channels)
    for height, width in ((1, 1), (2, 3), (5, 7), (28, 28), (31, 45)):
        denoised = model(torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(1)) * 2)
        assert denoised.shape == (2, channels, height, width)
        assert denoised.min() >= 0
        assert denoised.max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("spec", [*MODELS, "resunet:noise-map=true"])
def test_the_file_computes_what_the_model_does(spec: str, channels: int, tmp_path: Path) -> None:
    model = _unsettled(spec, "", channels)
    export_onnx(model, channels, tmp_path / "model.onnx", {"description": "", "input_range": "", "output_range": ""})
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for batch, height, width in ((1, 28, 28), (3, 31, 45), (2, 1, 1), (1, 64, 20)):
        noisy = np.random.default_rng(0).normal(0.5, 0.5, (batch, channels, height, width)).astype(np.float32)
        with torch.no_grad():
            wanted = model(torch.from_numpy(noisy)).numpy()
        np.testing.assert_allclose(session.run(None, {"noisy": noisy})[0], wanted, rtol=0, atol=1e-5)


def test_the_models_of_the_course_have_its_number_of_parameters() -> None:
    assert count_parameters(build_model("autoencoder")) == 16_385
    assert count_parameters(build_model("unet")) == 136_673


def test_the_receptive_field_is_what_the_arithmetic_says() -> None:
    assert receptive_field(build_model("dncnn:depth=5,width=4"), 1) == 11  # 2 * depth + 1
    # The first convolution multiplies by 9 x 4, the three others by 9 x 4 x 4 and the last by 9 x 4.
    assert multiply_adds_per_pixel(build_model("dncnn:depth=5,width=4"), 1) == 36 + 3 * 144 + 36


def test_counting_multiply_adds_does_not_import_the_compiler_of_torch() -> None:
    """Which takes `compare` seconds. Here, other tests may have imported it."""
    counted = (
        "import sys; from pipeline.models import build_model, count_parameters; "
        "from pipeline.models.facts import multiply_adds_of; "
        "print([multiply_adds_of(name, '', count_parameters(build_model(name)), 1) for name in ('unet', 'resunet')], "
        "'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", counted], env=environment(), check=True, capture_output=True, text=True, timeout=HANG
    )
    wanted = [multiply_adds_per_pixel(build_model(name), 1) for name in ("unet", "resunet")]
    assert done.stdout == f"{wanted} False\n"


def test_counting_multiply_adds_takes_no_memory_for_a_model_that_is_too_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """The config of a run in a shared store may name a model of any width."""
    devices = []

    def build(spec: str, size: str, channels: int) -> nn.Module:
        model = build_model(spec, size, channels)
        devices.append(next(model.parameters()).device.type)
        return model

    monkeypatch.setattr(facts, "build_model", build)
    assert facts.multiply_adds_of("unet:width=400", "", 1, 1) is None
    assert devices == ["meta"]


@pytest.mark.parametrize("spec", MODELS)
@torch.no_grad()
def test_tiles_leave_no_seam(spec: str) -> None:
    model = _unsettled(spec)
    noisy = torch.rand(1, 1, 150, 203, generator=torch.Generator().manual_seed(0))
    around = halo(model, 1)

    def run(part: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(part)).numpy()

    whole = run(noisy.numpy())
    difference = np.abs(tiled(run, noisy.numpy(), around, tile=2 * around + 32) - whole).max()
    assert difference < 1e-6
    seam = np.abs(tiled(run, noisy.numpy(), 0, tile=32) - whole).max()  # what it would be without the halo
    assert seam > 100 * difference


@torch.no_grad()
@pytest.mark.parametrize("size", [(321, 481), (64, 48), (9, 13), (5, 2), (1, 1)])
def test_a_residual_unet_sees_images_mirrored_to_sides_as_in_training(size: tuple[int, int]) -> None:
    """Where a side cannot be halved at every scale, a trained network was wrong all over the image."""
    model = _unsettled("resunet:width=4,scales=4")
    image = torch.rand(1, 1, *size)
    whole = image
    for dimension in (2, 3):
        side = whole.shape[dimension]
        order = [max(0, place if place < side else 2 * (side - 1) - place) for place in range(-(-side // 8) * 8)]
        whole = whole.index_select(dimension, torch.tensor(order))
    with torch.no_grad():
        expected = model(whole)[..., : size[0], : size[1]]
        assert torch.equal(model(image), expected)
        assert not torch.equal(expected, image.clamp(0, 1))


def test_without_biases_a_brighter_image_comes_out_brighter_by_as_much() -> None:
    # The input is dim enough that the clamp at the end, which is not linear, has nothing to do at 1.
    noisy = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 0.3
    for spec, equal in (("resunet:bias=false", True), ("resunet", False)):
        model = _unsettled(spec)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter, std=0.1)
        once, twice = model(noisy), model(2 * noisy)
        assert torch.allclose(2 * once, twice, atol=1e-5) == equal


def test_the_estimated_noise_level_is_that_of_the_noise(digits: np.ndarray) -> None:
    clean = torch.from_numpy(digits[:200, None]).float() / 255
    flat = torch.zeros_like(clean)
    for sigma in (0.03, 0.1, 0.3):
        noise = sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        assert noise_level(flat + noise).mean().item() == pytest.approx(sigma, rel=0.03)
    assert noise_level(noise.expand(-1, 3, -1, -1) * 0 + torch.randn(200, 3, 28, 28) * 0.1).mean() == pytest.approx(
        0.1, rel=0.03
    )


def test_models_prints_a_row_for_every_model_and_size(cli: Cli) -> None:
    done = cli("models")
    assert (done.code, done.err) == (0, "")
    rows = [line.split() for line in done.out.splitlines()]
    assert ["autoencoder", "16,385", "1,474", "29", "x", "29"] in [row[:6] for row in rows]
    assert ["unet", "136,673"] in [row[:2] for row in rows]
    for size in MODELS["resunet"].sizes:
        assert ["resunet", size] in [row[:2] for row in rows]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--model", "resnet"], ["'resnet'", "autoencoder, unet, resunet, dncnn", "did you mean 'resunet'"]),
        (["--model", "unet:wdth=8"], ["'wdth'", "width", "did you mean 'width'"]),
        (["--model", "unet:width=0"], ["unet: width", "'0'", "from 1 to 1,024"]),
        (["--model", "unet:width=x"], ["unet: width", "'x'", "from 1 to 1,024"]),
        (["--model", "unet:width"], ["'width'", "key=value"]),
        (["--model", "unet:width=8,width=9"], ["'width' is given twice"]),
        (["--model", "resunet:bias=maybe"], ["resunet: bias", "'maybe'", "true", "false"]),
        (["--model", "resunet", "--size", "xl"], ["--size", "'xl'", "m, s, l"]),
        (["--size", "s"], ["--size", "autoencoder", "'s'", "allowed: none"]),
    ],
)
def test_a_wrong_model_is_one_line_that_says_what_is_allowed(arguments: list[str], parts: list[str], cli: Cli) -> None:
    done = cli("train", *arguments)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    for part in parts:
        assert part in done.err
