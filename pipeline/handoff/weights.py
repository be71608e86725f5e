"""Does an exported file hold the weights of the model, bit for bit?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from pipeline.verification.gates import Gate, no_more, none_of

_COUNTER = "num_batches_tracked"  # of BatchNorm; it has no effect where the momentum is given
# How far, relative to its largest term, a weight may be from one that was folded in float64: the exporter folds in
# float32, in four operations.
FOLDING = 1e-6
# Values that no weight explains: constants in the code of a model, such as the nine of a filter. Outputs judge them.
MAX_CONSTANTS = 64


@dataclass(frozen=True)
class _Folded:
    """What a convolution is with the BatchNorm behind it folded in, in float64."""

    weight: np.ndarray
    bias: np.ndarray
    terms: np.ndarray  # the largest, in magnitude, of each sum that is a bias


def check_weights(path: Path, model: nn.Module) -> Iterator[Gate]:
    """Compare the tensors of a file with the weights of the model that it was made from.

    The exporter keeps the names of parameters and buffers: those must have the same bits. It stores equal tensors once,
    and reshapes and transposes some under other names: their bits must be in the file. A BatchNorm directly behind a
    convolution is folded into it: the result must be what folding gives in float64, within `FOLDING`. Convolutions and
    BatchNorms must have the strides, padding, epsilon and the like of the layer.

    Args:
        path: of the ONNX file, which is safe to open.
        model: on the CPU, in eval mode, float32.
    """
    graph = onnx.load(path).graph
    stored = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    weights = {
        name: values.detach().numpy()
        for name, values in model.state_dict().items()
        if not name.endswith(_COUNTER) and values.dtype == torch.float32
    }
    same = {name for name in weights if name in stored and _bits(stored[name]) == _bits(weights[name])}
    inside, made = _find_folded(weights.keys() & stored.keys() - same, stored, model)
    differ = sorted(weights.keys() & stored.keys() - same - made)
    yield none_of("weights that differ from the checkpoint", path.name, differ)

    contents = {_bits(values) for values in stored.values()}
    forms = {name: {_bits(weights[name]), _bits(weights[name].T)} for name in weights.keys() - stored.keys() - inside}
    missing = sorted(name for name, bits in forms.items() if not bits & contents)
    yield none_of("weights of the checkpoint that are not in the file", path.name, missing)

    known = set().union(*forms.values())
    named = weights.keys() | made
    others = [values.size for name, values in stored.items() if name not in named and _bits(values) not in known]
    yield no_more("values that the checkpoint does not have", path.name, sum(others), MAX_CONSTANTS)

    bits = Counter(map(_bits, weights.values()))
    own = {name for name, values in weights.items() if bits[_bits(values)] == 1}  # others are stored under one name
    wrong = [node.name or node.output[0] for node in graph.node if not _has_attributes(node, own, model)]
    yield none_of("nodes whose attributes are not those of the layer", path.name, wrong)


def _find_folded(names: Iterable[str], stored: Mapping[str, np.ndarray], model: nn.Module) -> tuple[set[str], set[str]]:
    """The weights of BatchNorms that are inside convolutions, and the tensors of the file that are such convolutions.

    Args:
        names: of weights that are not stored as they are.
        stored: the tensors of the file.
        model: the model.
    """
    modules, inside, made = dict(model.named_modules()), set(), set()
    for name in names:
        convolution = modules[name.rpartition(".")[0]]
        if not name.endswith(".weight") or not isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d):
            continue
        for norm, module in modules.items():
            if isinstance(module, nn.BatchNorm2d) and module.num_features == convolution.out_channels:
                folded = _fold(convolution, module)
                biases = {key for key, values in stored.items() if _is_near(values, folded.bias, folded.terms)}
                # A bias of zeros is left out.
                if (biases or not folded.bias.any()) and _is_near(stored[name], folded.weight, np.abs(folded.weight)):
                    inside |= {f"{norm}.{part}" for part in module.state_dict()}
                    made |= {name, *biases}
    return inside, made


def _has_attributes(node: onnx.NodeProto, own: set[str], model: nn.Module) -> bool:
    """Whether a node does what the layer does whose weights it has; True where that is not known."""
    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    layers = {name.rpartition(".")[0] for name in node.input if name in own}
    layer = model.get_submodule(layers.pop()) if len(layers) == 1 else None
    if node.op_type == "BatchNormalization" and isinstance(layer, nn.BatchNorm2d):
        return bool(np.float32(given.get("epsilon", 1e-5)) == np.float32(layer.eps))
    if node.op_type not in ("Conv", "ConvTranspose") or not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return True
    if isinstance(layer.padding, str) or getattr(layer, "padding_mode", "zeros") != "zeros":
        return True
    wanted = {
        "strides": layer.stride,
        "dilations": layer.dilation,
        "pads": layer.padding * 2,
        "output_padding": layer.output_padding,
        "group": layer.groups,
    }
    usual = {"strides": (1, 1), "dilations": (1, 1), "pads": (0,) * 4, "output_padding": (0, 0), "group": 1}
    found = {name: given.get(name, value) for name, value in usual.items()}
    return (
        all((value if isinstance(value, int) else tuple(value)) == wanted[name] for name, value in found.items())
        and given.get("auto_pad", b"NOTSET") == b"NOTSET"
    )


def _bits(values: np.ndarray) -> bytes:
    """Of the values, whatever the shape: what an exporter does to a weight that it keeps is to reshape it."""
    return np.ascontiguousarray(values).tobytes()


def _fold(convolution: nn.Conv2d | nn.ConvTranspose2d, module: nn.BatchNorm2d) -> _Folded:
    assert module.running_mean is not None
    assert module.running_var is not None
    ones, zeros = torch.ones(module.num_features), torch.zeros(module.num_features)
    affine = (ones, zeros) if module.weight is None else (module.weight, module.bias)
    own_bias = zeros if convolution.bias is None else convolution.bias
    gain, shift, mean, variance, bias = (
        values.detach().double().numpy() for values in (*affine, module.running_mean, module.running_var, own_bias)
    )
    scale = gain / np.sqrt(variance + module.eps)
    weight = convolution.weight.detach().double().numpy()
    if isinstance(convolution, nn.ConvTranspose2d):  # [in, out / groups, height, width]
        groups = convolution.groups
        by_group = scale.reshape(groups, 1, -1, 1, 1)
        weight = (weight.reshape(groups, -1, *weight.shape[1:]) * by_group).reshape(weight.shape)
    else:
        weight = weight * scale.reshape(-1, 1, 1, 1)
    terms = np.stack([bias * scale, mean * scale, shift])
    return _Folded(weight, terms[0] - terms[1] + terms[2], np.abs(terms).max(axis=0))


def _is_near(found: np.ndarray, exact: np.ndarray, terms: np.ndarray) -> bool:
    return found.shape == exact.shape and bool((np.abs(found - exact) <= FOLDING * terms + 1e-12).all())
