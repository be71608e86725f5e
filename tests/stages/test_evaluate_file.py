"""evaluate --model: an exported file on images, without a run."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import PROJECT, Cli, write_digits
from onnx import TensorProto, helper
from PIL import Image

from pipeline.data.images import Part
from pipeline.scoring import awgn
from pipeline.scoring.metrics import METRICS
from pipeline.scoring.score import clipped, identity, score

HANDOFF = PROJECT / "artifacts" / "mnist-blind"


def write_identity(path: Path, channels: int) -> Path:
    """A model that returns its input, with the metadata of one that was exported."""
    noisy, denoised = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, "height", "width"])
        for name in ("noisy", "denoised")
    )
    graph = helper.make_graph([helper.make_node("Identity", ["noisy"], ["denoised"])], "identity", [noisy], [denoised])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {"accepted_range": "-3 3", "halo": "0", "clip_input": "false"})
    onnx.save(model, path)
    return path


def scores(out: str) -> dict[str, tuple[float, ...]]:
    """PSNR of the noisy, the clipped and the denoised images, by label of the noise."""
    found = re.findall(r": ([\w-]+): PSNR noisy ([\d.]+) dB, clipped ([\d.]+) dB, denoised ([\d.]+) dB; SSIM", out)
    return {label: tuple(map(float, values)) for label, *values in found}


def test_a_handoff_and_its_file_are_scored_alike_and_nothing_is_written(
    cli: Cli, tmp_path: Path, digits: np.ndarray
) -> None:
    write_digits(tmp_path / "digits", digits[:5])
    done = cli("evaluate", "--model", HANDOFF, "--dataset", "digits", "--protocol", "awgn")
    assert (done.code, done.err) == (0, "")
    part = awgn.ordered(Part(digits[:5, np.newaxis]))
    for label, noise in awgn.noises().items():
        known = score(part, noise, {"noisy": identity, "clipped": clipped}, {"psnr": METRICS["psnr"]})
        wanted = [float(f"{of['psnr'].mean():.2f}") for of in known.values()]
        *found, denoised = scores(done.out)[label]
        assert found == wanted
        assert denoised > found[1] + 6  # it was made for digits
    again = cli("evaluate", "--model", HANDOFF / "model.onnx", "--dataset", "digits", "--protocol", "awgn")
    assert again == done
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


@pytest.mark.parametrize(("channels", "of_model"), [(1, 1), (3, 3), (3, 1), (1, 3)])
def test_gray_and_colour_go_through_either_model(cli: Cli, tmp_path: Path, channels: int, of_model: int) -> None:
    (tmp_path / "black").mkdir()
    shape = (60, 80) if channels == 1 else (60, 80, 3)
    for number in range(3):
        Image.fromarray(np.full(shape, number, np.uint8)).save(tmp_path / "black" / f"{number}.png")
    model = write_identity(tmp_path / "identity.onnx", of_model)
    done = cli("evaluate", "--model", model, "--dataset", "black", "--protocol", "awgn")
    assert (done.code, done.err) == (0, "")
    assert ("3 images in colour became gray" in done.out) == (channels > of_model)
    assert ("the images are gray; the model takes 3 channels" in done.out) == (channels < of_model)
    noisy, clipped_noisy, denoised = scores(done.out)["awgn-25"]
    assert noisy == pytest.approx(20.17, abs=0.15)
    assert denoised == clipped_noisy  # the output is clipped, and no channel is noise of its own
    assert denoised > noisy + 2.5


def test_recorded_noise_is_that_of_the_pairs(cli: Cli, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for folder, sigma in (("clean", 0), ("noisy", 10)):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
        for number in range(2):
            image = 100 + sigma * random.standard_normal((50, 50, 3))
            Image.fromarray(np.rint(image).astype(np.uint8)).save(tmp_path / "pairs" / folder / f"{number}.png")
    model = write_identity(tmp_path / "identity.onnx", 3)
    done = cli("evaluate", "--model", model, "--dataset", "pairs")
    assert (done.code, done.err) == (0, "")
    assert scores(done.out)["recorded"] == pytest.approx([-20 * math.log10(10 / 255)] * 3, abs=0.2)


def test_a_variance_alone_is_that_of_gaussian_noise(cli: Cli, tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:2])
    wanted = cli("evaluate", "--model", HANDOFF, "--dataset", "digits", "--noise", "gaussian:variance=0.01")
    for words in (("--variance", 0.01), ("--sigma", 25.5), ("--noise", "gaussian")):
        assert cli("evaluate", "--model", HANDOFF, "--dataset", "digits", *words) == wanted
    assert wanted.code == 0
    assert "evaluate: digits: 0.01: PSNR noisy " in wanted.out


def test_what_is_missing_is_said_in_one_line(cli: Cli, tmp_path: Path, digits: np.ndarray) -> None:
    write_digits(tmp_path / "digits", digits[:2])
    model = ("--model", HANDOFF)
    wrong = {
        model: ("--model needs images to score on: --dataset FOLDER", 2),
        ("--protocol", "awgn"): ("--protocol needs images to score on: --dataset FOLDER", 2),
        ("--protocol", "kodak"): ("'kodak' is not a protocol; there is one: awgn", 2),
        (*model, "--dataset", "digits", "--run-id", "0" * 32): ("--run-id, --device and --force are for runs", 2),
        (*model, "--dataset", "digits", "--device", "cpu"): ("--run-id, --device and --force are for runs", 2),
        (*model, "--dataset", "digits", "--protocol", "awgn", "--clip-input"): ("--protocol sets the noise", 2),
        (*model, "--dataset", "digits"): ("give --protocol awgn, or one such as --variance 0.01", 2),
        (*model, "--dataset", "digits", "--protocol", "awgn", "--variance", "0.01"): ("--protocol sets the noise", 2),
        ("--model", "nowhere", "--dataset", "digits", "--protocol", "awgn"): ("does not exist", 2),
    }
    for words, (said, code) in wrong.items():
        done = cli("evaluate", *words)
        assert (done.code, len(done.err.splitlines())) == (code, 1), done
        assert said in done.err
