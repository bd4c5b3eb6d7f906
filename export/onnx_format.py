"""ONNX models of single nets: each Keras layer becomes ONNX nodes.

The interface is that of `tensorflow_formats`. ONNX computes on [N, C, H, W], so the model
transposes its input, and P-Net's maps at the end.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from export import deployment
from models import keras_nets
from mtcnn_detector.backend import CHANNELS_FIRST, CHANNELS_LAST, Outputs, Predict, inference_net
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import HEADS, NetName
from mtcnn_detector.pixels import PIXEL_MEAN, PIXEL_SCALE
from mtcnn_detector.weights.weight_files import TrainedNet

OPSET, IR_VERSION = 17, 8  # of 2022: read by runtimes of then and later
AUTO_PAD = {"same": "SAME_UPPER", "valid": "VALID"}


def onnx_model(name: NetName, trained: TrainedNet) -> bytes:
    """A serialised ONNX model of the net: `pixels` in; `score`, `box`, (`landmarks`) out.

    Raises:
        UserError: the package `onnx` is not installed, or the net has a layer without ONNX nodes.
    """
    onnx = _package("onnx")
    net = inference_net(name, trained.net)
    model = keras_nets.build(net)
    keras_nets.set_weights(model, trained.weights, f"the {name} to export")
    graph = _Graph(onnx.helper, onnx.numpy_helper)
    for operation in model.operations:
        _add(graph, operation)
    maps = net.convolutional
    sides = ["height", "width"] if maps else [net.size, net.size]
    inputs = [graph.tensor("pixels", ["count", *sides, 3])]
    outputs = [
        graph.tensor(*_output(graph, head, _name(tensor), maps))
        for head, tensor in model.output.items()
    ]
    whole = onnx.helper.make_graph(graph.nodes, name, inputs, outputs, graph.constants)
    opset = [onnx.helper.make_opsetid("", OPSET)]
    proto = onnx.helper.make_model(whole, opset_imports=opset, ir_version=IR_VERSION)
    onnx.helper.set_model_props(proto, deployment.metadata(name, net))
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString()
    return content


class _Graph:
    """ONNX nodes and constants; a node's output has the name of its Keras tensor."""

    def __init__(self, helper: Any, arrays: Any) -> None:
        self._helper, self._to_tensor = helper, arrays.from_array
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        self.nodes.append(self._helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, array: Any) -> str:
        """Add a constant; returns its name."""
        self.constants.append(self._to_tensor(np.asarray(array, order="C"), name))
        return name

    def tensor(self, name: str, shape: list[Any]) -> Any:
        """The declaration of a float32 input or output."""
        return self._helper.make_tensor_value_info(name, 1, shape)


def _add(graph: _Graph, operation: Any) -> None:
    kind = type(operation).__name__
    if kind not in NODES:
        raise UserError(f"the ONNX export has no nodes for a {kind} layer ({operation.name}).")
    source = "" if kind == "InputLayer" else _name(operation.input)
    NODES[kind](graph, operation, source, _name(operation.output))


def _name(tensor: Any) -> str:
    """Of a Keras tensor in the graph; the prefix keeps it apart from the model's input `pixels`."""
    return f"keras/{tensor.name}"


def _input(graph: _Graph, layer: Any, _: str, output: str) -> None:
    """The input, 0 to 255, normalised as `pixels.normalise` does."""
    mean = graph.constant("pixel_mean", np.float32(PIXEL_MEAN))
    scale = graph.constant("pixel_scale", np.float32(PIXEL_SCALE))
    centred = graph.node("Sub", ["pixels", mean], "centred")
    graph.node("Div", [centred, scale], "normalised")
    graph.node("Transpose", ["normalised"], output, perm=list(CHANNELS_FIRST))


def _conv(graph: _Graph, layer: Any, source: str, output: str) -> None:
    kernel = graph.constant(f"{layer.name}/kernel", _transposed(layer.kernel))
    bias = graph.constant(f"{layer.name}/bias", np.asarray(layer.bias))
    _activated(graph, layer, output, "Conv", [source, kernel, bias], **_window(layer))


def _separable(graph: _Graph, layer: Any, source: str, output: str) -> None:
    """A depthwise convolution, then a pointwise one."""
    depthwise = _transposed(layer.depthwise_kernel)  # [1, channels, h, w]
    channels = depthwise.shape[1]  # each is a group of its own in ONNX: [channels, 1, h, w]
    kernel = graph.constant(f"{layer.name}/depthwise", depthwise.transpose(1, 0, 2, 3))
    inner = graph.node(
        "Conv", [source, kernel], f"{output}/depthwise", group=channels, **_window(layer)
    )
    pointwise = graph.constant(f"{layer.name}/pointwise", _transposed(layer.pointwise_kernel))
    bias = graph.constant(f"{layer.name}/bias", np.asarray(layer.bias))
    _activated(graph, layer, output, "Conv", [inner, pointwise, bias])


def _transposed(kernel: Any) -> NDArray[Any]:
    """[h, w, in, out] -> [out, in, h, w]."""
    return np.asarray(kernel).transpose(3, 2, 0, 1)


def _window(layer: Any) -> dict[str, Any]:
    return {"strides": list(layer.strides), "auto_pad": AUTO_PAD[layer.padding]}


def _dense(graph: _Graph, layer: Any, source: str, output: str) -> None:
    kernel = graph.constant(f"{layer.name}/kernel", np.asarray(layer.kernel))
    bias = graph.constant(f"{layer.name}/bias", np.asarray(layer.bias))
    _activated(graph, layer, output, "Gemm", [source, kernel, bias])


def _activated(
    graph: _Graph, layer: Any, output: str, kind: str, inputs: list[str], **attributes: Any
) -> None:
    """The node, followed by a ReLU if the layer has one."""
    activation = keras.activations.serialize(layer.activation)
    if activation not in ("linear", "relu"):
        raise UserError(
            f"the ONNX export has no node for the activation {activation} ({layer.name})."
        )
    inner = f"{output}/linear" if activation == "relu" else output
    graph.node(kind, inputs, inner, **attributes)
    if activation == "relu":
        graph.node("Relu", [inner], output)


def _prelu(graph: _Graph, layer: Any, source: str, output: str) -> None:
    alpha = np.asarray(layer.alpha)
    slopes = alpha.transpose(2, 0, 1) if alpha.ndim == 3 else alpha
    graph.node("PRelu", [source, graph.constant(f"{layer.name}/alpha", slopes)], output)


def _pool(graph: _Graph, layer: Any, source: str, output: str) -> None:
    shape = list(layer.pool_size)
    graph.node("MaxPool", [source], output, kernel_shape=shape, **_window(layer))


def _flatten(graph: _Graph, layer: Any, source: str, output: str) -> None:
    """In (h, w, c) order, as Keras does."""
    channels_last = graph.node(
        "Transpose", [source], f"{output}/transposed", perm=list(CHANNELS_LAST)
    )
    graph.node("Flatten", [channels_last], output, axis=1)


def _relu(graph: _Graph, layer: Any, source: str, output: str) -> None:
    graph.node("Relu", [source], output)


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


def _output(graph: _Graph, head: str, source: str, maps: bool) -> tuple[str, list[Any]]:
    """Name and shape of a head; of the two classes the probability of a face."""
    leading = ["count", "rows", "columns"] if maps else ["count"]
    if maps:
        source = graph.node("Transpose", [source], f"{head}/transposed", perm=list(CHANNELS_LAST))
    if head == "cls":
        probabilities = graph.node("Softmax", [source], "probabilities", axis=-1)
        index = graph.constant("face_index", np.int64(1))
        graph.node("Gather", [probabilities, index], "score", axis=-1)
        return "score", leading
    graph.node("Identity", [source], head)
    return head, [*leading, HEADS[head]]


def load_onnx(path: Path) -> Predict:
    """A function that runs an ONNX model on a batch, by onnxruntime.

    Raises:
        UserError: the package `onnxruntime` is not installed.
    """
    providers = ["CPUExecutionProvider"]
    session = _package("onnxruntime").InferenceSession(str(path), providers=providers)
    names = [output.name for output in session.get_outputs()]

    def predict(pixels: NDArray[Any]) -> Outputs:
        outputs = session.run(names, {"pixels": pixels.astype(np.float32)})
        return Outputs.from_heads(dict(zip(names, outputs, strict=True)))

    return predict


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"ONNX needs the package {name}: `pip install onnx onnxruntime`.") from None
