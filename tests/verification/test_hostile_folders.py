"""Folders and files that want `verify` to read elsewhere, to run for ever, to crash, or to print what they like."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import PROJECT, write_sums
from onnx import TensorProto, helper, numpy_helper

from pipeline.files import sha256_file
from pipeline.verification.command import report
from pipeline.verification.folder import verify
from pipeline.verification.gates import all_passed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a released hand-off."""
    return Path(shutil.copytree(PROJECT / "artifacts" / "mnist-blind", tmp_path / "received"))


def reseal(folder: Path, change: Callable[[dict[str, Any]], object] = lambda manifest: None) -> None:
    """Change the manifest, and make all checksums what they would be."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["models"]:
        entry["sha256"] = sha256_file(folder / entry["file"])
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    write_sums(folder)


def refused(folder: Path) -> str:
    """The line that `verify` ends with, before any runtime opened a file."""
    table, error, code = report(folder, "onnxruntime")
    assert code == 3
    assert "golden images" not in table
    assert "\n" not in error
    return error


def test_golden_data_outside_of_the_folder(folder: Path) -> None:
    shutil.copytree(folder / "test_data_set_0", folder.parent / "outside")
    reseal(folder, lambda manifest: manifest["models"][0].update(test_data="../outside"))
    assert "golden data that are not in the folder (manifest.json): ../outside/input_0.pb" in refused(folder)
    reseal(folder, lambda manifest: manifest["models"][0].update(test_data=str(folder.parent / "outside")))
    assert "golden data that are not in the folder" in refused(folder)


def test_golden_data_whose_values_are_in_another_file(folder: Path) -> None:
    golden = folder / "test_data_set_0" / "input_0.pb"
    tensor = TensorProto.FromString(golden.read_bytes())
    (folder.parent / "secret").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(folder.parent / "secret"))
    golden.write_bytes(tensor.SerializeToString())
    reseal(folder)
    _, error, code = report(folder, "onnxruntime")
    assert (code, "input_0.pb: its values are in another file" in error) == (3, True)


def test_a_newline_in_a_file_name_is_no_line(folder: Path) -> None:
    (folder / "a\nError: all is well\x1b[2J").write_bytes(b"")
    table, error, _ = report(folder, "onnxruntime")
    assert r"unlisted files (folder): a\nError: all is well\x1b[2J" in error
    assert table.isprintable() is False  # it has lines
    assert all(line.isprintable() for line in table.splitlines())
    assert not any(line.startswith("Error") for line in table.splitlines())


@pytest.mark.parametrize(
    ("name", "said"),
    [(".DS_Store", "delete what a file manager has left behind"), ("samples/._0_noisy.png", "delete what")],
)
def test_what_a_file_manager_leaves_is_called_that(name: str, said: str, folder: Path) -> None:
    (folder / name).write_bytes(b"")
    assert f"unlisted files (folder): {name}; allowed: none: {said}" in refused(folder)


def test_a_hard_link_is_explained(folder: Path) -> None:
    (folder.parent / "elsewhere").hardlink_to(folder / "model.onnx")
    assert "links to other files (folder): model.onnx; allowed: none: if a sync tool made them" in refused(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"models": ' + "9" * 5_000 + "}", "is readable"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"models": 7}', "can be read (folder): "),
        ('{"models": [7]}', "lacks"),
        ('{"models": [{}]}', "lacks 'file'"),
        ('{"models": [], "fetched": [1]}', "is readable"),
        ('{"models": [], "fetched": 3}', "is readable"),
        ("\x00", "is readable"),
        ("\udcff", "is readable"),
    ],
)
def test_malformed_json_ends_in_one_line(text: str, said: str, folder: Path) -> None:
    (folder / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    write_sums(folder)
    assert said in refused(folder)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"input": {"shape": [1]}}, "lacks"),
        ({"input": {"shape": ["batch", "1", "height", "width"]}}, "1 to 64 channels, and not '1'"),
        ({"input": {"shape": ["batch", 10**9, "height", "width"]}}, "1 to 64 channels"),
        ({"file": 7}, "must be texts"),
        ({"more_test_data": 5}, "lacks"),
        ({"more_test_data": [["x"]]}, "must be texts"),
        ({"variant": "float31"}, "of the variant 'float31'; there are float32, uint8, int8, fp16"),
        ({"tolerance": {"max_abs": 1e9}}, "tolerance (manifest.json: model.onnx): {'max_abs': 1000000000.0}"),
        ({"tolerance": {"max_abs": float("inf")}}, "tolerance (manifest.json: model.onnx)"),
        ({"tolerance": {"psnr": -100}}, "tolerance (manifest.json: model.onnx)"),
        ({"variant": "int8", "tolerance": {"psnr": 40}}, "float model (manifest.json): none; allowed: model.onnx"),
    ],
)
def test_a_wrong_entry_ends_in_one_line(entry: dict[str, Any], said: str, folder: Path) -> None:
    reseal(folder, lambda manifest: manifest["models"][0].update(entry))
    assert said in refused(folder)


def test_the_manifest_does_not_say_where_nothing_is_compared(folder: Path) -> None:
    reseal(folder, lambda manifest: manifest["models"][0].update(runtimes=[]))
    gates = verify(folder, ["onnxruntime"])
    assert all_passed(gates)
    assert sum(gate.where.startswith("onnxruntime: model.onnx: ") for gate in gates) >= 2
    empty = numpy_helper.from_array(np.zeros((0, 1, 28, 28), np.float32))
    for name in ("input", "output"):
        (folder / "test_data_set_0" / f"{name}_0.pb").write_bytes(empty.SerializeToString())
    reseal(folder)
    assert report(folder, "onnxruntime")[2] == 3


# Graphs that a runtime must not open, in place of the model.


def write(folder: Path, nodes: list[onnx.NodeProto], *constants: tuple[str, np.ndarray]) -> None:
    image = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, "height", "width"])
        for name in ("noisy", "denoised")
    ]
    tensors = [numpy_helper.from_array(values, name) for name, values in constants]
    graph = helper.make_graph(nodes, "hostile", image[:1], image[1:], tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    proto.metadata_props.extend(onnx.load(folder / "model.onnx").metadata_props)
    onnx.save(proto, folder / "model.onnx")
    reseal(folder)


def loop(folder: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", [f"{name}_in"], [f"{name}_out"]) for name in ("more", "image")],
        "body",
        [
            helper.make_tensor_value_info("count", TensorProto.INT64, []),
            helper.make_tensor_value_info("more_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("image_in", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("more_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("image_out", TensorProto.FLOAT, None),
        ],
    )
    node = helper.make_node("Loop", ["times", "more", "noisy"], ["denoised"], body=body)
    write(folder, [node], ("times", np.array(2**62)), ("more", np.array(True)))


def many_nodes(folder: Path) -> None:
    names = ["noisy", *(f"x{number}" for number in range(199_999)), "denoised"]
    write(folder, [helper.make_node("Relu", [names[i]], [names[i + 1]]) for i in range(200_000)])


def large_constant(folder: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["large"]),
        helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=0),
        helper.make_node("Add", ["noisy", "sum"], ["denoised"]),
    ]
    write(folder, nodes, ("shape", np.array([3 * 2**28])))


def large_range(folder: Path) -> None:
    nodes = [
        helper.make_node("Range", ["zero", "end", "one"], ["large"]),
        helper.make_node("Cast", ["large"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats"], ["sum"], keepdims=0),
        helper.make_node("Add", ["noisy", "sum"], ["denoised"]),
    ]
    write(folder, nodes, *((name, np.array(value)) for name, value in (("zero", 0), ("end", 2**40), ("one", 1))))


def large_padding(folder: Path) -> None:
    node = helper.make_node("Conv", ["noisy", "kernel"], ["denoised"], pads=[2**20] * 4)
    write(folder, [node], ("kernel", np.ones((1, 1, 1, 1), np.float32)))


def declared_large(folder: Path) -> None:
    """A tensor that says that it is large, and holds nothing."""
    write(folder, [helper.make_node("Add", ["noisy", "large"], ["denoised"])], ("large", np.ones(1, np.float32)))
    proto = onnx.load(folder / "model.onnx")
    proto.graph.initializer[0].dims[:] = [2**40]
    onnx.save(proto, folder / "model.onnx")
    reseal(folder)


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (loop, "operators that are not on the list of those allowed (model.onnx): Loop; allowed: none"),
        (many_nodes, "nodes (model.onnx): 200,000; allowed: at most 5,000"),
        (large_constant, "operators that are not on the list of those allowed (model.onnx): ConstantOfShape"),
        (large_range, "largest integer (model.onnx): 1,099,511,627,776; allowed: at most 4,096"),
        (large_padding, "largest integer (model.onnx): 1,048,576"),
        (declared_large, "values in one tensor (model.onnx): 1,099,511,627,776"),
    ],
)
def test_a_graph_that_never_answers_is_not_opened(plant: Callable[[Path], None], said: str, folder: Path) -> None:
    plant(folder)
    assert said in refused(folder)


def endless_range(folder: Path) -> None:
    """As `large_range`, but no constant shows it."""
    nodes = [
        helper.make_node("Mul", ["end", "end"], ["more"]),
        helper.make_node("Mul", ["more", "more"], ["most"]),
        helper.make_node("Range", ["zero", "most", "one"], ["large"]),
        helper.make_node("Cast", ["large"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats"], ["sum"], keepdims=0),
        helper.make_node("Add", ["noisy", "sum"], ["denoised"]),
    ]
    write(folder, nodes, *((name, np.array(value)) for name, value in (("zero", 0), ("end", 4_000), ("one", 1))))


def test_memory_and_time_have_an_end_where_no_constant_shows_the_size(folder: Path) -> None:
    endless_range(folder)
    gates = verify(folder, ["onnxruntime"], seconds=20)
    assert next(gate.gate for gate in gates if not gate.passed) in ("runs", "answers"), gates[-1]


def test_no_answer_in_time_is_a_failed_check(folder: Path) -> None:
    (gate,) = [gate for gate in verify(folder, ["onnxruntime"], seconds=0) if not gate.passed]
    assert (gate.gate, gate.where, gate.value) == ("answers", "onnxruntime", "nothing for 0 s")


# Folders that are wrong in themselves, or whose parts disagree.


def test_a_halo_that_is_too_small_is_found_by_cutting_an_image(folder: Path) -> None:
    lie(folder, "halo", 0, card=("with 40 more", "with 0 more"))
    gates = verify(folder, ["onnxruntime"])
    assert [gate.gate for gate in gates if not gate.passed] == ["a tile with a halo of 0 pixels equals the whole"]


@pytest.mark.parametrize("key", ["halo", "accepted_range"])
def test_metadata_and_manifest_agree(key: str, folder: Path) -> None:
    reseal(folder, lambda manifest: manifest.update({key: 48 if key == "halo" else [-30.0, 30.0]}))
    assert f"{key.replace('_', ' ')} in both (model.onnx, manifest.json)" in refused(folder)


def test_an_accepted_range_without_end_is_none(folder: Path) -> None:
    reseal(folder, lambda manifest: manifest.update(accepted_range=[-float("inf"), float("inf")]))
    assert "accepted range (model.onnx, manifest.json): -inf to inf; allowed: within ±1000" in refused(folder)


@pytest.mark.parametrize(
    ("was", "said"),
    [("opset 18", "opset in the card"), ("[batch, 1,", "channels in the card"), ("-3", "accepted range")],
)
def test_the_card_agrees(was: str, said: str, folder: Path) -> None:
    card = folder / "MODEL_CARD.md"
    card.write_text(card.read_text().replace(was, was.replace("8", "9").replace("1,", "3,").replace("-3", "-300")))
    reseal(folder)
    assert said in refused(folder)


@pytest.mark.parametrize("name", ["LICENSE", "verify.py", "MODEL_CARD.md", "parity_report.json"])
def test_a_file_that_every_folder_has(name: str, folder: Path) -> None:
    (folder / name).unlink()
    reseal(folder)
    assert f"missing files (folder): {name}" in refused(folder)


def test_golden_images_of_one_size_are_not_enough(folder: Path) -> None:
    reseal(folder, lambda manifest: [entry.update(more_test_data=[]) for entry in manifest["models"]])
    failures = [gate for gate in verify(folder, ["onnxruntime"]) if not gate.passed]
    assert [(gate.gate, gate.value) for gate in failures] == [("sizes of golden images", "7x1x28x28")]


def lie(folder: Path, key: str, value: object, card: tuple[str, str]) -> None:
    """Say something else of a file everywhere."""
    for path in folder.glob("*.onnx"):
        proto = onnx.load(path)
        for prop in proto.metadata_props:
            prop.value = str(value) if prop.key == key else prop.value
        onnx.save(proto, path)
    text = (folder / "MODEL_CARD.md").read_text()
    (folder / "MODEL_CARD.md").write_text(text.replace(*card))
    reseal(folder, lambda manifest: manifest.update({key: value}))


def test_an_old_onnx_is_said_to_be_old(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "__version__", "1.14.0")
    assert report(folder, "onnxruntime") == (
        "",
        "onnx 1.14.0 is too old: onnx 1.16 or newer is needed; run: pip install -U onnx",
        1,
    )
