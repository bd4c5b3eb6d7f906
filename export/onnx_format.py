"""ONNX: a net's Keras layers, one by one, as ONNX nodes; the interface is `tensorflow_formats`'s.

ONNX runs on [N, C, H, W], so pictures are turned at the entrance, and maps at the exit.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models import keras_nets
from mtcnn_detector.backend import Outputs, Predict, to_run
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import HEADS, NetName
from mtcnn_detector.pixels import Image
from mtcnn_detector.weights.weight_files import TrainedNet

OPSET, IR_VERSION = 17, 8  # of 2022: what runtimes of then and later read
CHANNELS_FIRST, CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
AUTO_PAD = {"same": "SAME_UPPER", "valid": "VALID"}


def onnx_model(name: NetName, trained: TrainedNet) -> bytes:
    """An ONNX model of the net; float32 pixels from 0 to 255 in, heads by name out.

    Raises:
        UserError: the `onnx` package is not there, or the net has a layer that is unknown here.
    """
    onnx = _package("onnx")
    net = to_run(name, trained.net)
    model = keras_nets.build(net)
    keras_nets.set_weights(model, trained.weights, f"the {name} to export")
    graph = _Graph(onnx.helper, onnx.numpy_helper)
    for operation in model.operations:
        _add(graph, operation)
    maps = net.convolutional
    sides = ["height", "width"] if maps else [net.size, net.size]
    taken = [graph.tensor("pixels", ["count", *sides, 3])]
    exits = [_exit(graph, head, _name(tensor), maps) for head, tensor in model.output.items()]
    given = [graph.tensor(*exit) for exit in exits]
    made = onnx.helper.make_graph(graph.nodes, name, taken, given, graph.arrays)
    opset = [onnx.helper.make_opsetid("", OPSET)]
    whole = onnx.helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION)
    onnx.checker.check_model(whole, full_check=True)
    content: bytes = whole.SerializeToString()
    return content


class _Graph:
    """ONNX nodes and constants as they come; a node's result has the name of its Keras tensor."""

    def __init__(self, helper: Any, arrays: Any) -> None:
        self._helper, self._to_array = helper, arrays.from_array
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []

    def node(self, kind: str, taken: list[str], made: str, **attributes: Any) -> str:
        """Add a node, and give the name of what it makes."""
        self.nodes.append(self._helper.make_node(kind, taken, [made], **attributes))
        return made

    def constant(self, name: str, array: Any) -> str:
        """Add a constant, and give its name."""
        self.arrays.append(self._to_array(np.asarray(array, order="C"), name))
        return name

    def tensor(self, name: str, shape: list[Any]) -> Any:
        """A float tensor that goes in or comes out."""
        return self._helper.make_tensor_value_info(name, 1, shape)


def _add(graph: _Graph, operation: Any) -> None:
    kind = type(operation).__name__
    if kind not in NODES:
        raise UserError(f"the ONNX export knows no layer of the kind {kind} ({operation.name}).")
    taken = "" if kind == "InputLayer" else _name(operation.input)
    NODES[kind](graph, operation, taken, _name(operation.output))


def _name(tensor: Any) -> str:
    """Of a Keras tensor in the graph; `pixels` itself is what comes from outside."""
    return f"keras/{tensor.name}"


def _input(graph: _Graph, layer: Any, _: str, made: str) -> None:
    """Pixels from 0 to 255, as `pixels.normalise` gives them to the net."""
    middle, half = (
        graph.constant("middle", np.float32(127.5)),
        graph.constant("half", np.float32(128)),
    )
    centred = graph.node("Sub", ["pixels", middle], "centred")
    graph.node("Div", [centred, half], "normalised")
    graph.node("Transpose", ["normalised"], made, perm=CHANNELS_FIRST)


def _conv(graph: _Graph, layer: Any, taken: str, made: str) -> None:
    kernel = graph.constant(f"{layer.name}/kernel", _turned(layer.kernel))
    bias = graph.constant(f"{layer.name}/bias", np.asarray(layer.bias))
    _activated(graph, layer, made, "Conv", [taken, kernel, bias], **_sides(layer))


def _separable(graph: _Graph, layer: Any, taken: str, made: str) -> None:
    """A convolution of each channel by itself, then one over the channels of a pixel."""
    alone = _turned(layer.depthwise_kernel)  # [1, channels, h, w]; ONNX: so many sets of one
    kernel = graph.constant(f"{layer.name}/depthwise", alone.transpose(1, 0, 2, 3))
    names = [taken, kernel]
    inner = graph.node("Conv", names, f"{made}/alone", group=alone.shape[1], **_sides(layer))
    over = graph.constant(f"{layer.name}/pointwise", _turned(layer.pointwise_kernel))
    bias = graph.constant(f"{layer.name}/bias", np.asarray(layer.bias))
    _activated(graph, layer, made, "Conv", [inner, over, bias])


def _turned(kernel: Any) -> Any:
    """[h, w, in, out] -> [out, in, h, w]."""
    return np.asarray(kernel).transpose(3, 2, 0, 1)


def _sides(layer: Any) -> dict[str, Any]:
    return {"strides": list(layer.strides), "auto_pad": AUTO_PAD[layer.padding]}


def _dense(graph: _Graph, layer: Any, taken: str, made: str) -> None:
    names = [taken, graph.constant(f"{layer.name}/kernel", np.asarray(layer.kernel))]
    names.append(graph.constant(f"{layer.name}/bias", np.asarray(layer.bias)))
    _activated(graph, layer, made, "Gemm", names)


def _activated(
    graph: _Graph, layer: Any, made: str, kind: str, taken: list[str], **attributes: Any
) -> None:
    """The node, with a ReLU behind it if the layer has one."""
    activation = keras.activations.serialize(layer.activation)
    if activation not in ("linear", "relu"):
        raise UserError(f"the ONNX export knows no activation {activation} ({layer.name}).")
    inner = f"{made}/linear" if activation == "relu" else made
    graph.node(kind, taken, inner, **attributes)
    if activation == "relu":
        graph.node("Relu", [inner], made)


def _prelu(graph: _Graph, layer: Any, taken: str, made: str) -> None:
    alpha = np.asarray(layer.alpha)
    slopes = alpha.transpose(2, 0, 1) if alpha.ndim == 3 else alpha
    graph.node("PRelu", [taken, graph.constant(f"{layer.name}/alpha", slopes)], made)


def _pool(graph: _Graph, layer: Any, taken: str, made: str) -> None:
    shape = list(layer.pool_size)
    graph.node("MaxPool", [taken], made, kernel_shape=shape, **_sides(layer))


def _flatten(graph: _Graph, layer: Any, taken: str, made: str) -> None:
    """In (h, w, c) order, as Keras does."""
    turned = graph.node("Transpose", [taken], f"{made}/turned", perm=CHANNELS_LAST)
    graph.node("Flatten", [turned], made, axis=1)


def _relu(graph: _Graph, layer: Any, taken: str, made: str) -> None:
    graph.node("Relu", [taken], made)


NODES: dict[str, Callable[[_Graph, Any, str, str], None]] = {
    "InputLayer": _input,
    "Conv2D": _conv,
    "SeparableConv2D": _separable,
    "Dense": _dense,
    "PReLU": _prelu,
    "ReLU": _relu,
    "MaxPooling2D": _pool,
    "Flatten": _flatten,
}


def _exit(graph: _Graph, head: str, made: str, maps: bool) -> tuple[str, list[Any]]:
    """A head's name and shape; of the two classes the probability of a face."""
    leading = ["count", "rows", "columns"] if maps else ["count"]
    last = made
    if maps:
        last = graph.node("Transpose", [made], f"{head}/turned", perm=CHANNELS_LAST)
    if head == "cls":
        shares = graph.node("Softmax", [last], "score/shares", axis=-1)
        graph.node("Gather", [shares, graph.constant("score/index", np.int64(1))], "score", axis=-1)
        return "score", leading
    graph.node("Identity", [last], head)
    return head, [*leading, HEADS[head]]


def run_onnx(path: Path) -> Predict:
    """The outputs of an ONNX model, by onnxruntime."""
    session = _package("onnxruntime").InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]

    def run(pixels: Image) -> Any:
        outputs = session.run(names, {"pixels": pixels.astype(np.float32)})
        return Outputs.from_heads(dict(zip(names, outputs, strict=True)))

    return run


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"ONNX needs the package {name}: `pip install onnx onnxruntime`.") from None
