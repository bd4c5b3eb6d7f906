"""The inference backend: OpenVINO graphs built from a net's arrays, compiled and run.

Every thread has an inference request of its own, which computes on one thread: for nets this small
that is faster than a request with many threads, and results do not depend on their number.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import UserError
from .net import NETS, Layer, Net, NetName
from .openvino_import import ops, ov
from .pixels import PIXEL_MEAN, PIXEL_SCALE
from .weights.net_weights import TrainedNet, Weights

MAX_CACHED_SHAPES = 16  # compiling takes as long as ten runs
CHANNELS_FIRST, CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)  # axes of [N, H, W, C], of [N, C, H, W]
SINGLE_THREAD = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
Precision = Literal["exact", "fast"]
PRECISIONS: dict[Precision, str] = {"exact": "f32", "fast": "bf16"}
# OpenVINO's bindings fill tables at their first use, where two threads at once can wait for each
# other for ever: one thread at a time builds graphs, compiles them and runs them first.
BUILD_LOCK = threading.RLock()
Shape = tuple[int, ...]  # of an input
Inference = Callable[[NDArray[Any]], list[NDArray[Any]]]  # pixels, 0 to 255 -> outputs


class Outputs(NamedTuple):
    """Outputs of a net; leading axes are [N] for crops, [N, h, w] for P-Net's maps."""

    score: NDArray[np.float32]  # [...] probability of a face
    box: NDArray[np.float32]  # [..., 4] offsets
    landmarks: NDArray[np.float32] | None  # [..., 10]

    @staticmethod
    def from_heads(heads: Mapping[str, NDArray[np.float32]]) -> "Outputs":
        """From arrays by the names of their heads."""
        return Outputs(heads["score"], heads["box"], heads.get("landmarks"))


Predict = Callable[[NDArray[Any]], Outputs]  # a net, by any runtime


def inference_net(name: NetName, net: Net) -> Net:
    """A net for inference: only O-Net keeps its landmark head, the others' serve training."""
    return replace(net, landmarks=net.landmarks and name == NETS[-1])


class CompiledNet:
    """One net, compiled for RGB batches, in any thread.

    It is compiled anew for every input shape, and the last `MAX_CACHED_SHAPES` are kept: quick
    where shapes are few.

    Args:
        name: which net of the cascade.
        trained: the net, folded (without normalisation and extra ReLUs).
        precision: "exact" computes in float32; "fast" in bfloat16.

    Raises:
        UserError: a layer is not folded, or "fast" on a processor without bfloat16.
    """

    def __init__(self, name: NetName, trained: TrainedNet, precision: Precision = "exact") -> None:
        self.name, self.net = name, inference_net(name, trained.net)
        self._made_from: tuple[Any, ...] = (name, trained, precision)
        with BUILD_LOCK:
            self._prepare(build_graph(self.net, trained.weights), precision)

    def _prepare(self, model: ov.Model, precision: Precision) -> None:
        self._core = ov.Core()
        if precision == "fast":
            _require_bfloat16(self._core)
        self._config = SINGLE_THREAD | {"INFERENCE_PRECISION_HINT": PRECISIONS[precision]}
        self._model = model
        self._idle: OrderedDict[Shape, list[Inference]] = OrderedDict()  # least recently used first
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:
        return type(self), self._made_from

    def __call__(self, pixels: NDArray[Any]) -> Outputs:
        """(N, H, W, 3) RGB, 0 to 255, uint8 or float32 -> the net's outputs."""
        with self._lock:
            idle = self._idle.get(pixels.shape)
            infer = idle.pop() if idle else None
        if infer is None:
            with BUILD_LOCK:
                infer = self._compiled(pixels.shape)
                infer(pixels)
        arrays = infer(pixels)
        with self._lock:
            self._idle.setdefault(pixels.shape, []).append(infer)
            self._idle.move_to_end(pixels.shape)
            while len(self._idle) > MAX_CACHED_SHAPES:
                self._idle.popitem(last=False)
        return self._outputs(arrays)

    def _outputs(self, arrays: list[NDArray[Any]]) -> Outputs:
        """The heads out of the arrays that the graph gives."""
        (heads,) = arrays
        with np.errstate(over="ignore"):  # a probability of 0
            score = 1 / (1 + np.exp(-heads[..., 0]))
        return Outputs(score, heads[..., 1:5], heads[..., 5:] if self.net.landmarks else None)

    def _compiled(self, shape: Shape) -> Inference:
        """The net compiled for one input shape, with an inference request of its own."""
        model = self._model.clone()
        model.reshape(list(shape))
        request = self._core.compile_model(model, "CPU", self._config).create_infer_request()
        inputs = request.get_input_tensor().data
        outputs = [request.get_output_tensor(i).data for i in range(len(model.outputs))]
        # Bytes are taken by models in whole numbers; crops have fractions of grey levels.
        round_inputs = np.issubdtype(inputs.dtype, np.integer)

        def infer(pixels: NDArray[Any]) -> list[NDArray[Any]]:
            inputs[...] = np.rint(pixels) if round_inputs else pixels
            request.infer()
            return [output.copy() for output in outputs]

        return infer


def _require_bfloat16(core: ov.Core) -> None:
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UserError(
            'precision="fast" needs a processor that computes in bfloat16, and this one does '
            'not: leave it at precision="exact".'
        )


def build_graph(net: Net, weights: Weights) -> ov.Model:
    """The OpenVINO model of a net: [N, H, W, 3] RGB, 0 to 255 -> [N, (h, w,) heads].

    The output concatenates the heads: the class as one logit (softmax over two logits is the
    sigmoid of their difference), box offsets, and landmarks where the net has them.
    """
    side = -1 if net.convolutional else net.size
    pixels = ops.parameter([-1, side, side, 3], np.float32, name="pixels")
    centred = ops.subtract(pixels, np.array(PIXEL_MEAN, np.float32))
    x = ops.transpose(ops.divide(centred, np.array(PIXEL_SCALE, np.float32)), CHANNELS_FIRST)
    flat = False
    for number, layer in enumerate(net.layers, 1):
        if layer.dense and not flat:
            x, flat = _flattened(x), True
        x = _add_layer(x, layer, number, weights)
    kernel, bias = _joined_heads(net, weights)
    if kernel.ndim == 4:  # the bias before the transpose: a twentieth of P-Net's time
        x = ops.transpose(_with_bias(_convolution(x, kernel), bias), CHANNELS_LAST)
    else:
        x = ops.add(_matmul(x, kernel), bias)
    return ov.Model([x], [pixels], "net")


def _add_layer(x: Any, layer: Layer, number: int, weights: Weights) -> Any:
    if layer.norm or layer.relu:
        raise UserError(f"layer{number} has a norm or a ReLU: fold the net before it is run.")
    strides, padding = [layer.stride] * 2, "same_upper" if layer.padding == "same" else "valid"
    if layer.pool:
        kernel = [layer.pool] * 2
        pool = ops.max_pool(x, strides, [1, 1], [0, 0], [0, 0], kernel, "floor", padding)
        return pool.output(0)  # the second output holds indices
    arrays = {key: weights.get(f"layer{number}/{key}") for key in ("kernel", "bias")}
    if layer.dense:
        x = ops.add(_matmul(x, arrays["kernel"]), arrays["bias"])
    elif layer.separable:
        depthwise = weights[f"layer{number}/depthwise_kernel"].transpose(2, 3, 0, 1)[:, :, None]
        x = ops.group_convolution(x, depthwise, strides, [0, 0], [0, 0], [1, 1], padding)
        x = _with_bias(_convolution(x, weights[f"layer{number}/pointwise_kernel"]), arrays["bias"])
    else:
        x = _with_bias(_convolution(x, arrays["kernel"], strides, padding), arrays["bias"])
    return ops.prelu(x, weights[f"prelu{number}/alpha"].reshape(-1))


def _convolution(x: Any, kernel: Any, strides: Any = (1, 1), padding: str = "valid") -> Any:
    first = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
    return ops.convolution(x, first, list(strides), [0, 0], [0, 0], [1, 1], padding)


def _matmul(x: Any, kernel: Any) -> Any:
    return ops.matmul(x, np.ascontiguousarray(kernel.T), False, True)


def _with_bias(x: Any, bias: Any) -> Any:
    return ops.add(x, bias.reshape(1, -1, 1, 1))


def _flattened(x: Any) -> Any:
    """In (h, w, c) order, as the arrays hold it."""
    return ops.reshape(ops.transpose(x, CHANNELS_LAST), [0, -1], special_zero=True)


def _joined_heads(net: Net, weights: Weights) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One kernel and one bias for all heads, the class head as a single logit."""
    kernels = [weights[f"{head}/kernel"] for head in net.heads]
    biases = [weights[f"{head}/bias"] for head in net.heads]
    for arrays in (kernels, biases):
        arrays[0] = arrays[0][..., 1:] - arrays[0][..., :1]
    return np.concatenate(kernels, axis=-1), np.concatenate(biases, axis=-1)
