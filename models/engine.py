"""Runs one trained net on batches of pixels, as fast as we know how.

One thread to a laid-out net and a laid-out net to a thread: on these small nets that is faster
than one with many threads, and what is found depends on nothing but the pixels.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar, cast

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from configs import quiet
from configs.settings import NETS, Net, NetName
from models import nets, runners
from models.layouts import Trained
from models.pixels import normalise

KEPT = 16  # shapes for which a net stays laid out; that takes as long as running it ten times
AHEAD = 2  # items drawn for each other thread before it is ready for them
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
    """One net, ready to run on RGB batches of any size, in any thread.

    Quick where the sizes are few: the net is laid out for each of them.
    """

    def __init__(
        self,
        name: NetName,
        trained: Trained,
        runner: Callable[[bytes], runners.Runner] = runners.fastest,
    ) -> None:
        net = to_run(name, trained.net)
        model = nets.build(net)
        nets.set_weights(model, trained.weights, f"the {name} to run")
        self.name, self.net = name, net
        self._idle: OrderedDict[Shape, list[runners.Run]] = OrderedDict()  # used last is last
        self._lock = threading.Lock()
        with quiet.silence():  # the converter and the first run are talkative
            self._laid_out = runner(_converted(model, net))
            self(np.zeros((1, net.size, net.size, 3), np.uint8))

    def __call__(self, pixels: NDArray[Any]) -> Outputs:
        """(N, H, W, 3) RGB, 0 to 255, uint8 or float32 -> the net's outputs."""
        with self._lock:
            idle = self._idle.get(pixels.shape)
            run = idle.pop() if idle else None
        run = run or self._laid_out(pixels.shape)
        heads: Any = run(pixels)
        with self._lock:
            self._idle.setdefault(pixels.shape, []).append(run)
            self._idle.move_to_end(pixels.shape)
            while len(self._idle) > KEPT:
                self._idle.popitem(last=False)
        with np.errstate(over="ignore"):  # a probability of 0
            face = 1 / (1 + np.exp(-heads[..., 0]))
        return Outputs(face, heads[..., 1:5], heads[..., 5:] if self.net.points else None)


def _converted(model: keras.Model, net: Net) -> bytes:
    """The net for LiteRT: its heads joined into one, the class head a single logit."""
    heads = [model.get_layer(name) for name in net.heads]
    kernel, bias = zip(*(map(np.asarray, head.weights) for head in heads), strict=True)
    # softmax(a, b) is sigmoid(b - a): one output instead of two, and no pass over the maps.
    one_logit = [_difference(kernel[0]), *kernel[1:]], [_difference(bias[0]), *bias[1:]]
    joined, offset = (np.concatenate(parts, axis=-1) for parts in one_logit)
    trunk = keras.Model(model.inputs, heads[0].input)
    apply = tf.matmul if joined.ndim == 2 else _by_pixel

    def forward(pixels: tf.Tensor) -> tf.Tensor:
        return apply(trunk(normalise(pixels), training=False), joined) + offset

    given = tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.float32)
    concrete = tf.function(forward).get_concrete_function(given)
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


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int = AHEAD
) -> list[Result]:
    """`function` of all items, in their order; from inside of such a call, in that thread alone.

    The calling thread draws the items, and works like the others while `ahead` of them wait for
    each of these. So what is made while drawing is made by one thread; several would wait for each
    other's Python. After an error no further item is begun.
    """
    others = _threads.count - 1
    alone = isinstance(items, Sequence) and len(items) == 1  # it may want the threads itself
    if alone or not others or getattr(_threads.inside, "yes", False):
        return [function(item) for item in items]
    pool = _threads.pool = _threads.pool or ThreadPoolExecutor(others, "detector")
    drawn: SimpleQueue[tuple[int, Item] | None] = SimpleQueue()  # None: no more to come
    results: dict[int, Result] = {}
    errors: list[BaseException] = []
    helpers: list[Future[None]] = []

    def run(place: int, item: Item) -> None:
        _threads.inside.yes = True
        try:
            results[place] = function(item)
        except BaseException as error:
            errors.append(error)
        finally:
            _threads.inside.yes = False

    def work() -> None:
        for task in iter(drawn.get, None):
            if not errors:
                run(*task)
        drawn.put(None)  # for the next

    try:
        for task in enumerate(items):
            drawn.put(task)
            if len(helpers) < others:
                helpers.append(pool.submit(work))
            if drawn.qsize() > ahead * others:
                with suppress(Empty):  # the others were faster
                    run(*cast(tuple[int, Item], drawn.get_nowait()))
            if errors:
                break
    except BaseException as error:  # while drawing
        errors.append(error)
        raise
    finally:
        drawn.put(None)
        work()
        wait([helper for helper in helpers if not helper.cancel()])  # cancelled: others keep it
    if errors:
        raise errors[0]
    return [results[place] for place in range(len(results))]
