"""`verify`, as the receiving team runs it: on complete folders, and on damaged ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import PROJECT, Cli, Trained, terminal, without, write_sums
from onnx import numpy_helper

from pipeline.files import sha256_file
from pipeline.verification.command import report
from pipeline.verification.runtimes import RUNTIMES, is_installed


@pytest.fixture
def handoff(trained: Trained, tmp_path: Path) -> Path:
    """A copy, to damage."""
    return Path(shutil.copytree(trained.handoff, tmp_path / "received"))


def test_a_whole_folder_passes_without_torch_and_mlflow(handoff: Path) -> None:
    done = without(("torch", "mlflow", "torchvision", "onnxscript"), "verify", handoff)
    assert (done.code, done.err) == (0, ""), done
    assert "FAILED" not in done.out
    for where in ("model.onnx", "model_uint8.onnx", "model_int8.onnx", "model_fp16.onnx"):
        assert f"onnxruntime: {where}: 7 golden images of 28x28" in done.out
        assert (f"onnxruntime: {where}: 9 golden images of 12x20" in done.out) == (where != "model_uint8.onnx")
    assert f"checks passed, in onnxruntime; SHA-256 of model.onnx: {sha256_file(handoff / 'model.onnx')}" in done.out


def test_the_folder_verifies_itself(handoff: Path) -> None:
    """`python verify.py`, where the pipeline cannot be imported."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "verify.py", "--runtime", "reference"],
        cwd=handoff,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "reference: model.onnx: 5 golden images" in done.stdout


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_computes_what_torch_computed(runtime: str, trained: Trained) -> None:
    if runtime in ("opencv", "openvino") and not is_installed(runtime):
        pytest.skip(f"not run: {runtime} is not installed")
    table, error, code = report(trained.handoff, runtime)
    assert (error, code) == ("", 0)
    lines = [line for line in table.splitlines() if f"{runtime}: model.onnx: " in line]
    # At once and one by one, of four sizes, and a large batch, which with one size is too large for ONNX's reference.
    assert len(lines) == (6 if runtime == "reference" else 9)
    assert f"{runtime}: model_uint8.onnx" in table


def test_all_runtimes_and_those_that_are_missing(handoff: Path) -> None:
    done = without(("tract", "torch"), "verify", handoff, "--runtime", "all")
    assert done.code == 0
    assert "not run: tract is not installed (pip install tract)" in done.out
    assert "reference: model.onnx" in done.out
    done = without(("tract", "torch"), "verify", handoff, "--runtime", "tract")
    assert (done.code, done.out) == (1, "")
    assert done.err == "Error: tract is not installed; run: pip install tract\n"


# What may happen to a folder, and what the error must say.


def one_byte_changed(folder: Path) -> None:
    path = folder / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncated(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1000])


def truncated_with_its_sums(folder: Path) -> None:
    truncated(folder)
    _seal(folder)


def swapped(folder: Path) -> None:
    """The file of another model, with sums that match."""
    _change(folder, lambda proto: _set_weight(proto, 1.1))


def missing_file(folder: Path) -> None:
    (folder / "test_data_set_0" / "output_0.pb").unlink()


def file_besides(folder: Path) -> None:
    (folder / "samples" / "other.png").write_bytes(b"")


def symlink(folder: Path) -> None:
    (folder / "model.onnx").rename(folder.parent / "elsewhere.onnx")
    (folder / "model.onnx").symlink_to(folder.parent / "elsewhere.onnx")


def symlinked_folder(folder: Path) -> None:
    (folder / "samples").rename(folder.parent / "elsewhere")
    (folder / "samples").symlink_to(folder.parent / "elsewhere")


def hard_link(folder: Path) -> None:
    os.link(folder / "model.onnx", folder.parent / "elsewhere.onnx")


def path_that_leaves(folder: Path) -> None:
    (folder.parent / "secret").write_text("")
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(f"{sha256_file(folder.parent / 'secret')}  ../secret\n")


def external_data(folder: Path) -> None:
    def move_out(proto: onnx.ModelProto) -> None:
        tensor = proto.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        tensor.external_data.add(key="location", value="../secret")

    _change(folder, move_out)


def custom_domain(folder: Path) -> None:
    def rename(proto: onnx.ModelProto) -> None:
        proto.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
        proto.graph.node[0].domain = "com.example"

    _change(folder, rename)


def another_size(folder: Path) -> None:
    """A file above the cap: sparse, so that it takes no room."""
    with (folder / "model.onnx").open("r+b") as file:
        file.truncate(257 * 2**20)
    _seal(folder)


def static_batch(folder: Path) -> None:
    def fix(proto: onnx.ModelProto) -> None:
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7

    _change(folder, fix)


def pipe(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")


def nothing_described(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "models": []}))
    write_sums(folder)


def broken_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def manifest_without_models(folder: Path) -> None:
    (folder / "manifest.json").write_text("{}")
    write_sums(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (one_byte_changed, "files): model.onnx; allowed: none"),
        (truncated, "files): model.onnx; allowed: none"),
        (truncated_with_its_sums, "is an ONNX file (model.onnx): DecodeError"),
        (swapped, "difference from the golden output (onnxruntime: model.onnx: 7 golden images of 28x28)"),
        (missing_file, "missing files (folder): test_data_set_0/output_0.pb"),
        (file_besides, "unlisted files (folder): samples/other.png"),
        (symlink, "links to other files (folder): model.onnx"),
        (symlinked_folder, "links to other files (folder): samples"),
        (hard_link, "links to other files (folder): model.onnx"),
        (path_that_leaves, "paths that leave the folder (SHA256SUMS): ../secret"),
        (external_data, "tensors with external data (model.onnx)"),
        (custom_domain, "custom domains (model.onnx): com.example"),
        (another_size, "bytes (model.onnx): 269,484,032; allowed: at most 268,435,456"),
        (static_batch, "inputs (model.onnx): noisy: float32 [7, 1, height, width]"),
        (pipe, "devices and pipes (folder): manifest.json"),
        (nothing_described, "files described (manifest.json): none; allowed: model.onnx, model_fp16.onnx"),
        (broken_manifest, "is readable (SHA256SUMS and manifest.json): JSONDecodeError"),
        (manifest_without_models, "can be read (folder): KeyError: 'models'"),
    ],
)
def test_damage_is_reported_in_one_line(damage: Callable[[Path], None], message: str, handoff: Path) -> None:
    damage(handoff)
    table, error, code = report(handoff, "onnxruntime")
    assert code == 3
    assert message in error
    assert "\n" not in error
    if damage is not swapped:  # found before any runtime opened the file
        assert "golden images" not in table


def test_the_command_ends_with_that_line_and_that_code(handoff: Path, cli: Cli) -> None:
    one_byte_changed(handoff)
    table, error, code = report(handoff, "onnxruntime")
    done = cli("verify", handoff)
    assert (done.code, done.out, done.err) == (code, f"{table}\n", f"Error: {error}\n")


def test_in_a_terminal_a_check_is_one_line_and_its_result_is_seen(handoff: Path) -> None:
    whole, _, _ = report(handoff, "onnxruntime")
    with terminal(80):
        fitting, _, code = report(handoff, "onnxruntime")
    *checks, _ = fitting.splitlines()
    assert (code, max(map(len, checks))) == (0, 80)
    assert {line[:4] for line in checks[1:]} == {"ok  "}
    assert [line[:79] for line in checks] == [line[:79] for line in whole.splitlines()[:-1]]


def test_a_folder_that_is_not_a_handoff_is_a_usage_error(tmp_path: Path, cli: Cli) -> None:
    done = cli("verify", tmp_path)
    assert (done.code, done.err) == (2, f"Error: {tmp_path} is not a hand-off folder: it has no file SHA256SUMS\n")
    done = cli("verify", tmp_path / "nothing")
    assert done.code == 2
    done = cli("verify", tmp_path, "--runtime", "onnxrutnime")
    assert done.code == 2
    assert "did you mean 'onnxruntime'?" in done.err


def _change(folder: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    proto = onnx.load(folder / "model.onnx")
    change(proto)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    _seal(folder)


def _set_weight(proto: onnx.ModelProto, factor: float) -> None:
    tensor = proto.graph.initializer[0]
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((values * np.float32(factor)).astype(values.dtype), tensor.name))


def _seal(folder: Path) -> None:
    """Make the manifest and the checksums match the model file."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["models"][0]["sha256"] = sha256_file(folder / "model.onnx")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    write_sums(folder)


def test_the_released_handoff_is_whole_small_and_good(cli: Cli, tmp_path: Path) -> None:
    folder = PROJECT / "artifacts" / "mnist-blind"
    tracked = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "ort"]
    assert sum(path.stat().st_size for path in tracked) < 2_000_000
    done = cli("verify", folder, "--runtime", "all")
    assert done.code == 0, done
    (tmp_path / "clean").mkdir()
    for path in (folder / "samples").glob("*_clean.png"):
        shutil.copy(path, tmp_path / "clean")
    for variance, least in (("0.001", 38), ("0.01", 30), ("0.1", 23)):
        done = cli(
            "denoise", "--model", folder, tmp_path / "clean", "--output", tmp_path / "out", "--variance", variance
        )
        assert float(done.out.split("denoised ")[1].split()[0]) > least, done
