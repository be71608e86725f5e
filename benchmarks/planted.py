"""Faults to plant in an exported file. Each changes a correct file of a model as an error somewhere might.

The model must have BatchNorm, convolutions of both kinds, ReLU and a sigmoid at its end: `autoencoder`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Plant = Callable[[onnx.ModelProto], None]
IMAGE, RESULT = "noisy", "denoised"


def tensor(proto: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in proto.graph.initializer if tensor.name == name)


def nodes(proto: onnx.ModelProto, *kinds: str) -> list[onnx.NodeProto]:
    return [node for node in proto.graph.node if node.op_type in kinds]


def change(proto: onnx.ModelProto, name: str, function: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace the values of a tensor."""
    of = tensor(proto, name)
    before = numpy_helper.to_array(of)
    after = np.ascontiguousarray(function(before.copy()).astype(before.dtype))
    assert not np.array_equal(before, after), "nothing was planted"
    of.CopyFrom(numpy_helper.from_array(after, name))


def constant(proto: onnx.ModelProto, name: str, value: object, dtype: type = np.float32) -> str:
    proto.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), name))
    return name


def before_input(proto: onnx.ModelProto, *made: onnx.NodeProto) -> None:
    """What the model sees is "seen", which the nodes make of the input."""
    for node in proto.graph.node:
        node.input[:] = ["seen" if name == IMAGE else name for name in node.input]
    for node in reversed(made):
        proto.graph.node.insert(0, node)


def after_output(proto: onnx.ModelProto, *made: onnx.NodeProto) -> None:
    """The nodes make the output of "right", which was the output."""
    for node in proto.graph.node:
        node.input[:] = ["right" if name == RESULT else name for name in node.input]
        node.output[:] = ["right" if name == RESULT else name for name in node.output]
    proto.graph.node.extend(made)


def _weight(index: int, function: Callable[[np.ndarray], np.ndarray]) -> Plant:
    """Change the weights of the `index`-th convolution."""
    return lambda proto: change(proto, nodes(proto, "Conv", "ConvTranspose")[index].input[1], function)


def _input_of(kind: str, index: int, place: int, function: Callable[[np.ndarray], np.ndarray]) -> Plant:
    return lambda proto: change(proto, nodes(proto, kind)[index].input[place], function)


def _one(function: Callable[[np.float32], np.floating | float]) -> Callable[[np.ndarray], np.ndarray]:
    """Change the largest value only."""

    def changed(values: np.ndarray) -> np.ndarray:
        place = np.abs(values).argmax()
        values.flat[place] = function(values.flat[place])
        return values

    return changed


def _bfloat16(values: np.ndarray) -> np.ndarray:
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _eight_bits(values: np.ndarray) -> np.ndarray:
    step = np.abs(values).max() / 127
    return np.round(values / step) * step


def _swap(kind: str, place: int, first: int, second: int) -> Plant:
    """Two nodes of a kind get each other's weights."""

    def plant(proto: onnx.ModelProto) -> None:
        one, other = nodes(proto, kind)[first], nodes(proto, kind)[second]
        one.input[place], other.input[place] = other.input[place], one.input[place]

    return plant


def _attribute(kind: str, index: int, name: str, value: object) -> Plant:
    def plant(proto: onnx.ModelProto) -> None:
        node = nodes(proto, kind)[index]
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return plant


def _as(kind: str, index: int, other: str, **attributes: object) -> Plant:
    """Another operator in place of a node."""

    def plant(proto: onnx.ModelProto) -> None:
        node = nodes(proto, kind)[index]
        node.CopyFrom(helper.make_node(other, [node.input[0]], [*node.output], node.name, **attributes))

    return plant


def _swap_inputs(node: onnx.NodeProto, first: int, second: int) -> None:
    node.input[first], node.input[second] = node.input[second], node.input[first]


def _dilated(proto: onnx.ModelProto) -> None:
    """As many values come out, because the padding grows with the reach."""
    convolution = nodes(proto, "Conv")[-1]
    sides = tensor(proto, convolution.input[1]).dims[2:]
    for name, value in (("dilations", [2, 2]), ("pads", [int(side) - 1 for side in sides] * 2)):
        _attribute("Conv", len(nodes(proto, "Conv")) - 1, name, value)(proto)


def _stale(proto: onnx.ModelProto) -> None:
    """All weights a step of training away."""
    random = np.random.default_rng(0)
    for of in proto.graph.initializer:
        if of.data_type == TensorProto.FLOAT and len(of.dims) == 4:
            change(proto, of.name, lambda values: values + 1e-4 * random.standard_normal(values.shape))


def _bias_dropped(proto: onnx.ModelProto) -> None:
    del nodes(proto, "Conv")[1].input[2:]


def _training_mode(proto: onnx.ModelProto) -> None:
    """A BatchNorm that normalises with what it sees, spelled out, as ONNX's own has two more outputs then."""
    node = nodes(proto, "BatchNormalization")[0]
    image, gain, shift = node.input[:3]
    index = [*proto.graph.node].index(node)
    axes = constant(proto, "axes", [0, 2, 3], np.int64)
    shape = constant(proto, "shape", [-1, 1, 1], np.int64)
    small = constant(proto, "small", 1e-5)
    made = [
        helper.make_node("ReduceMean", [image, axes], ["mean"]),
        helper.make_node("Sub", [image, "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "centred"], ["square"]),
        helper.make_node("ReduceMean", ["square", axes], ["variance"]),
        helper.make_node("Add", ["variance", small], ["above"]),
        helper.make_node("Sqrt", ["above"], ["deviation"]),
        helper.make_node("Div", ["centred", "deviation"], ["normal"]),
        helper.make_node("Reshape", [gain, shape], ["gain"]),
        helper.make_node("Reshape", [shift, shape], ["shift"]),
        helper.make_node("Mul", ["normal", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], [node.output[0]]),
    ]
    proto.graph.node.remove(node)
    for node in reversed(made):
        proto.graph.node.insert(index, node)


def _around(kind: str, value: object) -> Plant:
    """A binary operator with a constant behind the output."""

    def plant(proto: onnx.ModelProto) -> None:
        after_output(proto, helper.make_node(kind, ["right", constant(proto, "value", value)], [RESULT]))

    return plant


def _clip_output(low: float, high: float) -> Plant:
    def plant(proto: onnx.ModelProto) -> None:
        ends = [constant(proto, "low", low), constant(proto, "high", high)]
        after_output(proto, helper.make_node("Clip", ["right", *ends], [RESULT]))

    return plant


def _clip_input(low: float, high: float) -> Plant:
    def plant(proto: onnx.ModelProto) -> None:
        ends = [constant(proto, "lowest", low), constant(proto, "highest", high)]
        before_input(proto, helper.make_node("Clip", [IMAGE, *ends], ["seen"]))

    return plant


def _half(proto: onnx.ModelProto) -> None:
    after_output(
        proto,
        helper.make_node("Cast", ["right"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], [RESULT], to=TensorProto.FLOAT),
    )


def _transposed(proto: onnx.ModelProto) -> None:
    before_input(proto, helper.make_node("Transpose", [IMAGE], ["seen"], perm=[0, 1, 3, 2]))
    after_output(proto, helper.make_node("Transpose", ["right"], [RESULT], perm=[0, 1, 3, 2]))


def _mirrored(proto: onnx.ModelProto) -> None:
    ends = [
        constant(proto, name, [value], np.int64) for name, value in (("s", -1), ("e", -(2**63)), ("a", 3), ("d", -1))
    ]
    after_output(proto, helper.make_node("Slice", ["right", *ends], [RESULT]))


def _shifted(proto: onnx.ModelProto) -> None:
    """The crop to the size of the input begins one pixel later, behind one pixel of padding."""
    pads = constant(proto, "pads", [0, 0, 1, 0, 0, 0, -1, 0], np.int64)
    after_output(proto, helper.make_node("Pad", ["right", pads], [RESULT]))


def _no_image(proto: onnx.ModelProto) -> None:
    """What depends on the input is a constant: gray."""
    after_output(
        proto,
        helper.make_node("Sub", ["right", "right"], ["nothing"]),
        helper.make_node("Add", ["nothing", constant(proto, "gray", 0.1)], [RESULT]),
    )


def _no_features(proto: onnx.ModelProto) -> None:
    """One feature map of the bottleneck is its mean."""
    node = nodes(proto, "Relu")[2]
    features = node.output[0]
    mask = np.ones((1, int(tensor(proto, nodes(proto, "ConvTranspose")[0].input[1]).dims[0]), 1, 1), np.float32)
    mask[:, 0] = 0
    node.output[0] = "all"
    made = helper.make_node("Mul", ["all", constant(proto, "mask", mask)], [features])
    proto.graph.node.insert([*proto.graph.node].index(node) + 1, made)


def _if_shape(axis: int, comparison: str, than: int, times: float = 1.01) -> Plant:
    """The output is wrong where a side of the image (or their number, or a remainder of 2) is so."""

    def plant(proto: onnx.ModelProto) -> None:
        made = [
            helper.make_node("Shape", ["right"], ["sides"]),
            helper.make_node("Gather", ["sides", constant(proto, "axis", axis, np.int64)], ["side"]),
        ]
        if comparison == "Odd":
            made.append(helper.make_node("Mod", ["side", constant(proto, "two", 2, np.int64)], ["rest"]))
            made.append(helper.make_node("Equal", ["rest", constant(proto, "one", 1, np.int64)], ["is"]))
        else:
            made.append(helper.make_node(comparison, ["side", constant(proto, "than", than, np.int64)], ["is"]))
        after_output(proto, *made, *_wrong_if(proto, times))

    return plant


def _wrong_if(proto: onnx.ModelProto, times: float) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Mul", ["right", constant(proto, "times", times)], ["wrong"]),
        helper.make_node("Where", ["is", "wrong", "right"], [RESULT]),
    ]


def _if_mean(comparison: str, than: float, times: float = 1.01) -> Plant:
    """The output of images is wrong whose mean is so."""

    def plant(proto: onnx.ModelProto) -> None:
        axes = constant(proto, "sides", [1, 2, 3], np.int64)
        made = [
            helper.make_node("ReduceMean", [IMAGE, axes], ["brightness"]),
            helper.make_node(comparison, ["brightness", constant(proto, "than", than)], ["is"]),
        ]
        after_output(proto, *made, *_wrong_if(proto, times))

    return plant


def _if_value(comparison: str, than: float, times: float = 1.01) -> Plant:
    """The output is wrong at pixels whose noisy value is so."""

    def plant(proto: onnx.ModelProto) -> None:
        made = helper.make_node(comparison, [IMAGE, constant(proto, "than", than)], ["is"])
        after_output(proto, made, *_wrong_if(proto, times))

    return plant


def _nan_swallowed(proto: onnx.ModelProto) -> None:
    made = helper.make_node("IsNaN", [IMAGE], ["is"])
    before_input(proto, made, helper.make_node("Where", ["is", constant(proto, "zero", 0), IMAGE], ["seen"]))


def _static(axis: int, size: int) -> Plant:
    def plant(proto: onnx.ModelProto) -> None:
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[axis].dim_value = size

    return plant


def _opset(number: int) -> Plant:
    return lambda proto: setattr(proto.opset_import[0], "version", number)


def _domain(proto: onnx.ModelProto) -> None:
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    proto.graph.node[0].domain = "com.example"


def _trace(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/someone/model.py")


def _renamed(proto: onnx.ModelProto) -> None:
    after_output(proto)
    proto.graph.output[0].name = "right"


def _another_output(proto: onnx.ModelProto) -> None:
    proto.graph.output.append(helper.make_tensor_value_info(proto.graph.node[0].output[0], TensorProto.INT64, [4]))


def _metadata(key: str, value: str) -> Plant:
    def plant(proto: onnx.ModelProto) -> None:
        next(prop for prop in proto.metadata_props if prop.key == key).value = value

    return plant


def _scatter(values: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).permutation(values.ravel()).reshape(values.shape)


FAULTS: dict[str, Plant] = {
    # weights
    "one weight off in its last bit": _weight(1, _one(lambda value: np.nextafter(value, np.float32(9)))),
    "one weight off by 1e-5": _weight(1, _one(lambda value: value + 1e-5)),
    "one weight off by 0.1 %": _weight(0, _one(lambda value: value * 1.001)),
    "one weight zero": _weight(2, _one(lambda value: 0.0)),
    "one weight with the other sign": _weight(3, _one(lambda value: -value)),
    "weights of a layer in 16 bits": _weight(1, lambda values: values.astype(np.float16)),
    "weights of a layer in bfloat16": _weight(2, _bfloat16),
    "weights of a layer in 8 bits": _weight(1, _eight_bits),
    "two channels swapped": _weight(1, lambda values: values[[1, 0, *range(2, len(values))]]),
    "a kernel transposed": _weight(0, lambda values: values.swapaxes(2, 3)),
    "a kernel turned": _weight(2, lambda values: values[..., ::-1, ::-1]),
    "a kernel of a transposed convolution turned": _weight(3, lambda values: values[..., ::-1, ::-1]),
    "weights of a layer scattered": _weight(1, _scatter),
    "all weights one step away": _stale,
    "a bias left out": _bias_dropped,
    "a bias off by 1e-5": _input_of("Conv", 0, 2, _one(lambda value: value + 1e-5)),
    "two biases in each other's place": _swap("Conv", 2, 0, 1),
    # BatchNorm
    "a mean of BatchNorm off by 1e-5": _input_of("BatchNormalization", 1, 3, _one(lambda value: value + 1e-5)),
    "a variance of BatchNorm off by 0.1 %": _input_of("BatchNormalization", 2, 4, _one(lambda value: value * 1.001)),
    "epsilon of BatchNorm 1e-3": _attribute("BatchNormalization", 1, "epsilon", 1e-3),
    "epsilon of BatchNorm 1.1e-5": _attribute("BatchNormalization", 1, "epsilon", 1.1e-5),
    "mean and variance of BatchNorm swapped": lambda proto: _swap_inputs(nodes(proto, "BatchNormalization")[0], 3, 4),
    "BatchNorm in training mode": _training_mode,
    # operators
    "padding on one side": _attribute("Conv", 0, "pads", [2, 2, 0, 0]),
    "another dilation": _dilated,
    "a ReLU that leaks": _as("Relu", 1, "LeakyRelu", alpha=1e-3),
    "a ReLU left out": _as("Relu", 2, "Identity"),
    "a ReLU after another law": _as("Relu", 0, "Softplus"),
    "a sigmoid by pieces": _as("Sigmoid", 0, "HardSigmoid"),
    "the sigmoid left out": _as("Sigmoid", 0, "Identity"),
    "the image mirrored": _mirrored,
    "the image transposed inside": _transposed,
    "the image shifted by a pixel": _shifted,
    "output in 16 bits": _half,
    "output 0.002 % brighter": _around("Mul", 1.00002),
    "output too bright by 2e-5": _around("Add", 2e-5),
    "output from 0 to 255": _around("Mul", 255),
    "output below 0.98": _clip_output(0, 0.98),
    "input in [0, 1]": _clip_input(0, 1),
    "input in [-1.6, 2.6]": _clip_input(-1.6, 2.6),
    "a constant in place of the image": _no_image,
    "a feature without its input": _no_features,
    "NaN taken for black": _nan_swallowed,
    # only for some images
    "wrong above height 128": _if_shape(2, "Greater", 128),
    "wrong above width 128": _if_shape(3, "Greater", 128),
    "wrong above height 512": _if_shape(2, "Greater", 512),
    "wrong above batch 600": _if_shape(0, "Greater", 600),
    "wrong for one image": _if_shape(0, "Less", 2),
    "wrong below height 4": _if_shape(2, "Less", 4),
    "wrong for odd heights": _if_shape(2, "Odd", 2),
    "wrong for bright images": _if_mean("Greater", 0.6),
    "wrong for dark images": _if_mean("Less", 0.02),
    "wrong at pixels above 1.3": _if_value("Greater", 1.3),
    "wrong at pixels below -0.3": _if_value("Less", -0.3),
    # the shell
    "a fixed batch": _static(0, 7),
    "a fixed height": _static(2, 28),
    "a newer opset": _opset(19),
    "another domain": _domain,
    "another IR version": lambda proto: setattr(proto, "ir_version", 10),
    "a path of the machine inside": _trace,
    "the output has another name": _renamed,
    "one output more": _another_output,
    "no halo": _metadata("halo", "0"),
}
