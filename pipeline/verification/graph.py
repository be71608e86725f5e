"""What an ONNX file may consist of: checked without running it, before a runtime opens it."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx

from .gates import Gate, all_passed, equal, failed, no_more, none_of

OPSET = 18  # the newest that torch's exporter writes without a conversion, and that older runtimes read too
IR_VERSION = 8  # the lowest that opset 18 allows; torch writes 10, which runtimes before 2024 refuse
INPUT, OUTPUT = "noisy", "denoised"

MAX_BYTES = 256 * 2**20  # of the file, and of a tensor in it: no model of the pipeline comes close
MAX_NODES = 5_000  # the largest model of the pipeline has 150
MAX_INTEGER = 4_096  # in attributes and int64 tensors, which hold sides, strides and axes; the pipeline's reach 64
_ENDS = (-(2**63), 2**63 - 1)  # of a slice: without end

# Those whose work and output follow from the size of their inputs. Not among them: loops and branches, which may never
# end; what fills a tensor of any size from nothing (ConstantOfShape, RandomNormal); strings, sequences and optionals.
_LISTED = (
    # for each value
    "Abs Add And Cast Ceil Celu Clip Cos Div Elu Equal Erf Exp Floor Greater GreaterOrEqual HardSigmoid HardSwish "
    "IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round "
    "Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub Sum Tanh ThresholdedRelu Where Xor "
    # over several
    "AveragePool BatchNormalization Conv ConvTranspose Gemm GlobalAveragePool GlobalMaxPool GroupNormalization "
    "InstanceNormalization LRN LayerNormalization LogSoftmax LpNormalization LpPool MatMul MaxPool ReduceL1 ReduceL2 "
    "ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare Softmax "
    # of shapes and places
    "Concat Constant DepthToSpace Expand Flatten Gather Identity Pad Range Reshape Resize Shape Size Slice "
    "SpaceToDepth Split Squeeze Transpose Unsqueeze "
    # of smaller types
    "DequantizeLinear QuantizeLinear"
)
OPERATORS = frozenset(_LISTED.split())


def check_safe(path: Path) -> Generator[Gate, None, onnx.ModelProto | None]:
    """Check that a runtime may open a file: that it holds everything itself, and only what ends and fits into memory.

    The generator returns the model, its weights included, or None if a check failed.

    Args:
        path: of the ONNX file. Only this file is read.
    """
    where = path.name
    gates = [no_more("bytes", where, path.stat().st_size, MAX_BYTES)]
    if gates[0].passed:
        try:
            proto = onnx.load(path, load_external_data=False)
            gates += _contents(proto, where)
        except Exception as error:  # of a damaged file, protobuf raises errors of many kinds
            gates.append(failed("is an ONNX file", where, error))
    yield from gates
    return proto if all_passed(gates) else None


def check_structure(path: Path, channels: int, dtype: str = "float32", output_dtype: str = "") -> Iterator[Gate]:
    """Check without running it that a file is safe, valid, self-contained, and has the right inputs and outputs.

    Args:
        path: of the ONNX file.
        channels: C of the images.
        dtype: of the input.
        output_dtype: of the output; "" means the same.
    """
    where = path.name
    proto = yield from check_safe(path)
    if proto is None:
        return
    try:
        onnx.checker.check_model(path, full_check=True)
        yield Gate("onnx checker", where, "valid", "valid", True)
    except Exception as error:
        yield failed("onnx checker", where, error)
    yield equal("opset", where, _opsets(proto), {"ai.onnx": OPSET})
    yield equal("IR version", where, proto.ir_version, IR_VERSION)
    traces = [node.name for node in proto.graph.node if node.metadata_props or node.doc_string]
    yield none_of("nodes with traces of the build machine", where, traces)
    for kind, values, name, wanted in (
        ("inputs", proto.graph.input, INPUT, dtype),
        ("outputs", proto.graph.output, OUTPUT, output_dtype or dtype),
    ):
        shape = f"{name}: {wanted} [batch, {channels}, height, width]"
        yield equal(kind, where, [_describe(value) for value in values], [shape])


def _contents(proto: onnx.ModelProto, where: str) -> Iterator[Gate]:
    nodes = proto.graph.node
    yield no_more("nodes", where, len(nodes), MAX_NODES)
    if len(nodes) > MAX_NODES:
        return
    attributes = [attribute for node in nodes for attribute in node.attribute]
    tensors = [*proto.graph.initializer, *(tensor for of in attributes for tensor in (of.t, *of.tensors))]
    external = [tensor.name for tensor in tensors if tensor.data_location or tensor.external_data]
    yield none_of("tensors with external data", where, external)
    domains = {node.domain for node in nodes} | {*_opsets(proto)} | {entry.domain for entry in proto.functions}
    yield none_of("custom domains", where, sorted(domains - {"", "ai.onnx"}))
    unknown = sorted({node.op_type for node in nodes} - OPERATORS)
    yield none_of("operators that are not on the list of those allowed", where, unknown)
    inner = [attribute.name for attribute in attributes if attribute.HasField("g") or attribute.graphs]
    inner += [entry.name for entry in proto.functions]
    inner += ["training"] * len(proto.training_info) + ["sparse tensors"] * len(proto.graph.sparse_initializer)
    yield none_of("graphs inside the graph, functions and sparse tensors", where, inner)
    sizes = [math.prod(tensor.dims) for tensor in tensors]
    yield no_more("values in one tensor", where, max(sizes, default=0), MAX_BYTES // 4)
    if not external:
        yield no_more("largest integer", where, max(map(abs, _integers(nodes, tensors)), default=0), MAX_INTEGER)


def _integers(nodes: Iterable[onnx.NodeProto], tensors: Iterable[onnx.TensorProto]) -> Iterator[int]:
    """The integers that may say how large something is."""
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.i, *attribute.ints)
    for tensor in tensors:
        if tensor.data_type == onnx.TensorProto.INT64:
            values = onnx.numpy_helper.to_array(tensor).ravel()
            yield from map(int, values[~np.isin(values, _ENDS)])


def _opsets(proto: onnx.ModelProto) -> dict[str, int]:
    return {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}


def _describe(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    try:
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    except KeyError:
        kind = "unknown"
    sizes = [dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim]
    return f"{value.name}: {kind} [{', '.join(sizes)}]"
