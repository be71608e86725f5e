"""What `run` leaves in the hand-off folder."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
from conftest import PROJECT, Trained
from PIL import Image

from pipeline.tracking import names


def test_the_handoff_folder_is_complete_and_its_sums_hold(trained: Trained) -> None:
    files = {path.relative_to(trained.handoff).as_posix() for path in trained.handoff.rglob("*") if path.is_file()}
    assert {
        "model.onnx",
        "MODEL_CARD.md",
        "manifest.json",
        "parity_report.json",
        "parity_report.md",
        "test_data_set_0/input_0.pb",
        "test_data_set_0/output_0.pb",
        *(f"test_data_set_{number}/{name}_0.pb" for number in (1, 2, 3) for name in ("input", "output")),
        "samples/0_noisy.png",
        "samples/0_denoised.png",
        "samples/0_clean.png",
    } <= files
    lines = (trained.handoff / "SHA256SUMS").read_text().splitlines()
    assert {line.split("  ")[1] for line in lines} == files - {"SHA256SUMS"}
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((trained.handoff / name).read_bytes()).hexdigest() == digest
    logged = trained.cwd / "mlruns" / "0" / trained.run_id / "artifacts" / names.HANDOFF
    assert (logged / "SHA256SUMS").read_bytes() == (trained.handoff / "SHA256SUMS").read_bytes()


def test_the_file_is_what_was_promised(trained: Trained) -> None:
    proto = onnx.load(trained.handoff / "model.onnx", load_external_data=False)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 18)]
    assert proto.ir_version == 8
    for value, name in ((proto.graph.input[0], "noisy"), (proto.graph.output[0], "denoised")):
        assert value.name == name
        sizes = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        assert sizes == ["batch", 1, "height", "width"]
    content = (trained.handoff / "model.onnx").read_bytes()
    for path in (str(PROJECT), str(trained.cwd), "site-packages", ".py"):
        assert path.encode() not in content
    for file in trained.handoff.rglob("*"):
        assert file.is_dir() or str(trained.cwd).encode() not in file.read_bytes(), file
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert metadata["Image.NominalPixelRange"] == "Normalized_0_1"
    assert metadata["mlflow_run_id"] == trained.run_id


def test_the_golden_vectors_hold_in_another_process_with_onnxruntime_alone(trained: Trained) -> None:
    code = """
import sys
import numpy as np, onnx, onnxruntime
from onnx import numpy_helper
read = lambda name: numpy_helper.to_array(onnx.load_tensor(f"test_data_set_0/{name}.pb"))
session = onnxruntime.InferenceSession("model.onnx")
assert {"torch", "mlflow", "pipeline"} & set(sys.modules) == set()
print(np.abs(session.run(["denoised"], {"noisy": read("input_0")})[0] - read("output_0")).max())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=trained.handoff, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert 0 <= float(done.stdout) < 1e-5


def test_the_examples_in_the_card_run(trained: Trained) -> None:
    card = (trained.handoff / "MODEL_CARD.md").read_text()
    model, options = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    example = model + options + model.splitlines()[-1]  # run with these options, too
    example += "\nassert denoised.shape == noisy.shape and 0 <= denoised.min() and denoised.max() <= 1\n"
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=trained.handoff, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "{" not in re.sub(r"```.*?```", "", card, flags=re.DOTALL)  # nothing left unfilled


def test_the_samples_are_the_digits(trained: Trained) -> None:
    clean, noisy, denoised = (
        np.asarray(Image.open(trained.handoff / "samples" / f"0_{name}.png"), np.float64) / 255
        for name in ("clean", "noisy", "denoised")
    )
    assert ((noisy - clean) ** 2).mean() > ((denoised - clean) ** 2).mean() > 0


def test_any_size_goes_in_and_comes_out(trained: Trained) -> None:
    session = onnxruntime.InferenceSession(trained.handoff / "model.onnx")
    for shape in ((1, 1, 1, 1), (3, 1, 17, 50), (0, 1, 28, 28)):
        noisy = np.random.default_rng(0).random(shape, np.float32)
        assert session.run(["denoised"], {"noisy": noisy})[0].shape == shape
