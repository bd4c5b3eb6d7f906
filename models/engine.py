"""Runs one trained net on batches of pixels, as fast as we know how."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from configs.settings import NETS, Net, NetName
from models import nets
from models.layouts import Trained
from models.pixels import Image, normalise


class Outputs(NamedTuple):
    """What a net says; leading axes are [N] for crops, [N, h, w] for P-Net's maps."""

    face: NDArray[np.float32]  # [...] probability of a face
    box: NDArray[np.float32]  # [..., 4] offsets
    points: NDArray[np.float32] | None  # [..., 10]


def to_run(name: NetName, net: Net) -> Net:
    """A net without what serves training only: the last net's points alone are ever read."""
    return replace(net, points=net.points and name == NETS[-1])


class Engine:
    """One net, ready to run on uint8 RGB batches of any size."""

    def __init__(self, name: NetName, trained: Trained) -> None:
        net = to_run(name, trained.net)
        model = nets.build(net)
        nets.set_weights(model, trained.weights, f"the {name} to run")
        self.name, self.net = name, net

        def forward(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
            heads = dict(model(normalise(tf.cast(pixels, tf.float32)), training=False))
            heads["face"] = tf.nn.softmax(heads["face"])[..., 1]
            return heads

        signature = [tf.TensorSpec([None, None, None, 3], tf.uint8)]
        self._forward = tf.function(forward, input_signature=signature)

    def __call__(self, pixels: Image) -> Outputs:
        """(N, H, W, 3) uint8 RGB -> the net's outputs."""
        heads = self._forward(tf.convert_to_tensor(pixels))
        points = heads["points"].numpy() if "points" in heads else None
        return Outputs(heads["face"].numpy(), heads["box"].numpy(), points)


def use_threads(count: int) -> None:
    """Let TensorFlow use this many threads in this process; call before its first operation."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(1)
