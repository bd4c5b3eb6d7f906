"""Runs one trained net on batches of pixels, as fast as we know how.

LiteRT with its XNNPACK kernels, one thread to an interpreter and an interpreter to a thread: on
these small nets that is faster than one interpreter with many threads, or than traced TensorFlow
here, and what is found depends on nothing but the pixels.
"""

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from configs import quiet
from configs.settings import NETS, Net, NetName
from models import nets
from models.layouts import Trained
from models.pixels import normalise

# Pixels that the idle interpreters of a net are laid out for, about 150 bytes each. Laying one out
# for another size takes as long as running it.
KEPT = 1_000_000
Shape = tuple[int, ...]  # of an input
Item = TypeVar("Item")
Result = TypeVar("Result")


class Outputs(NamedTuple):
    """What a net says; leading axes are [N] for crops, [N, h, w] for P-Net's maps."""

    face: NDArray[np.float32]  # [...] probability of a face
    box: NDArray[np.float32]  # [..., 4] offsets
    points: NDArray[np.float32] | None  # [..., 10]


def to_run(name: NetName, net: Net) -> Net:
    """A net without what serves training only: the last net's points alone are ever read."""
    return replace(net, points=net.points and name == NETS[-1])


class Engine:
    """One net, ready to run on RGB batches of any size, in any thread."""

    def __init__(self, name: NetName, trained: Trained) -> None:
        net = to_run(name, trained.net)
        model = nets.build(net)
        nets.set_weights(model, trained.weights, f"the {name} to run")
        self.name, self.net = name, net
        self._idle: OrderedDict[Shape, list[Any]] = OrderedDict()  # used last is last
        self._lock = threading.Lock()
        with quiet.silence():  # the converter and the first interpreter are talkative
            # Crops are small and have many channels: there it gains nothing.
            self._slopes = _slopes(model) if net.convolutional else {}
            self._content = _converted(model, net, self._slopes)
            self._laid_out(self._new(), (1, net.size, net.size, 3))

    def __call__(self, pixels: NDArray[Any]) -> Outputs:
        """(N, H, W, 3) RGB, 0 to 255, uint8 or float32 -> the net's outputs."""
        interpreter = self._take(pixels.shape)
        # Straight into its memory; the view must be gone when it runs.
        interpreter.tensor(interpreter.get_input_details()[0]["index"])()[...] = pixels
        interpreter.invoke()
        heads = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        with self._lock:
            self._idle.setdefault(pixels.shape, []).append(interpreter)
            self._idle.move_to_end(pixels.shape)
        with np.errstate(over="ignore"):  # a probability of 0
            face = 1 / (1 + np.exp(-heads[..., 0]))
        return Outputs(face, heads[..., 1:5], heads[..., 5:] if self.net.points else None)

    def _take(self, shape: Shape) -> Any:
        """An interpreter for inputs of this shape that no other thread has."""
        with self._lock:
            if shape in self._idle:
                return self._given(shape)
            other = None
            while sum(math.prod(k[:-1]) * len(v) for k, v in self._idle.items()) > KEPT:
                other = self._given(next(iter(self._idle)))  # laid out anew: faster than a new one
        return self._laid_out(other or self._new(), shape)

    def _given(self, shape: Shape) -> Any:
        """One that is laid out for this shape, no longer idle."""
        interpreter = self._idle[shape].pop()
        if not self._idle[shape]:
            del self._idle[shape]
        return interpreter

    def _new(self) -> Any:
        return Interpreter(model_content=self._content, num_threads=1)

    def _laid_out(self, interpreter: Any, shape: Shape) -> Any:
        given, *slopes = interpreter.get_input_details()
        rows = self._slopes_along(shape[2])
        interpreter.resize_tensor_input(given["index"], shape)
        for slope, row in zip(slopes, rows, strict=True):
            interpreter.resize_tensor_input(slope["index"], row.shape)
        interpreter.allocate_tensors()
        for slope, row in zip(slopes, rows, strict=True):
            interpreter.set_tensor(slope["index"], row)
        return interpreter

    def _slopes_along(self, width: int) -> list[NDArray[np.float32]]:
        """Each slope for a row of its map, of pixels so wide: (1, 1, C) -> (1, 1, w, C)."""
        rows = []
        for number, layer in enumerate(self.net.layers, 1):
            width = layer.outputs(width)
            if (slope := self._slopes.get(f"prelu{number}")) is not None:
                rows.append(np.tile(slope, (1, 1, width, 1)))
        return rows


def _slopes(model: keras.Model) -> dict[str, NDArray[np.float32]]:
    """(1, 1, C) for every PReLU: PReLU(x) is x + slope * min(x, 0)."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.PReLU)]
    return {layer.name: np.asarray(layer.alpha, np.float32) - 1 for layer in layers}


def _converted(model: keras.Model, net: Net, slopes: dict[str, NDArray[np.float32]]) -> bytes:
    """The net for LiteRT: its heads joined into one, the class head a single logit.

    XNNPACK runs PReLU pixel by pixel, a call for ten numbers or so. Where `slopes` has a PReLU,
    its slopes for a whole row of pixels are an input, after the pixels: three passes over the
    maps, but row by row, and the net takes a fifth less time.
    """
    heads = [model.get_layer(name) for name in net.heads]
    kernel, bias = zip(*(map(np.asarray, head.weights) for head in heads), strict=True)
    # softmax(a, b) is sigmoid(b - a): one output instead of two, and no pass over the maps.
    one_logit = [_difference(kernel[0]), *kernel[1:]], [_difference(bias[0]), *bias[1:]]
    joined, offset = (np.concatenate(parts, axis=-1) for parts in one_logit)
    trunk = keras.Model(model.inputs, heads[0].input)
    apply = tf.matmul if joined.ndim == 2 else _by_pixel

    def forward(pixels: tf.Tensor, *rows: tf.Tensor) -> tf.Tensor:
        row_of = dict(zip(slopes, rows, strict=True))
        seen = normalise(pixels)
        for layer in trunk.layers[1:]:
            if layer.name in row_of:
                seen += row_of[layer.name] * tf.minimum(seen, 0.0)
            else:
                seen = layer(seen, training=False)
        return apply(seen, joined) + offset

    given = [tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.float32)]
    given += [tf.TensorSpec([1, 1, None, slope.shape[-1]], tf.float32) for slope in slopes.values()]
    concrete = tf.function(forward).get_concrete_function(*given)
    # With the model as a second argument the weights of TensorFlow 2.21 come out as noise.
    content: bytes = tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()
    return content


def _difference(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return logits[..., 1:] - logits[..., :1]


def _by_pixel(maps: tf.Tensor, kernel: NDArray[np.float32]) -> tf.Tensor:
    return tf.nn.conv2d(maps, kernel, 1, "VALID")


class _Threads:
    """The threads that detectors of this process share, started when they are needed."""

    def __init__(self) -> None:
        self.count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        self.pool: ThreadPoolExecutor | None = None
        self.inside = threading.local()


_threads = _Threads()


def use_threads(count: int) -> None:
    """Let the detectors of this process use this many threads."""
    if _threads.pool is not None:
        _threads.pool.shutdown()
        _threads.pool = None
    _threads.count = count


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`function` of all items, in their order; from inside of such a call, in that thread alone.

    The calling thread works like the others: one that only waited for them would be woken, and
    take Python from them, after every item.
    """
    waiting = list(items)
    if _threads.count == 1 or len(waiting) == 1 or getattr(_threads.inside, "yes", False):
        return [function(item) for item in waiting]
    pool = _threads.pool = _threads.pool or ThreadPoolExecutor(_threads.count - 1, "detector")
    results: dict[int, Result] = {}
    places = iter(range(len(waiting)))  # that all draw from

    def work() -> None:
        _threads.inside.yes = True
        try:
            for place in places:
                results[place] = function(waiting[place])
        finally:
            _threads.inside.yes = False

    helpers = [pool.submit(work) for _ in range(_threads.count - 1)]
    try:
        work()
    finally:
        helpers = [helper for helper in helpers if not helper.cancel()]  # others keep it busy
        wait(helpers)
    for helper in helpers:
        helper.result()
    return [results[place] for place in range(len(waiting))]
