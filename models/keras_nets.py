"""P-Net, R-Net and O-Net as Keras models, built from their descriptions.

A net takes float32 [N, H, W, 3], RGB, normalised by `pixels.normalise`, and gives

    cls        [N, 2]   logits (background, face)
    box        [N, 4]   offsets in the frame of the net's window (see `boxes`)
    landmarks  [N, 10]  x1..x5, y1..y5 as fractions of the window (where the net has that head)

P-Net is fully convolutional: it takes images of any size and gives maps [N, h, w, ...].
"""

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from mtcnn_detector.architecture import NORM_EPSILON
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import HEADS, Layer, Net
from mtcnn_detector.weights.net_weights import Weights


def build(net: Net, seed: int = 0) -> keras.Model:
    """A freshly initialised Keras model of the net; its outputs are a dictionary of heads."""
    seeds = keras.random.SeedGenerator(seed)
    side = None if net.convolutional else net.size
    x = inputs = keras.Input((side, side, 3), name="pixels")
    for number, layer in enumerate(net.layers, 1):
        x = _apply(layer, x, number, seeds)
    heads = {name: _head(x, name, width, seeds) for name, width in net.heads.items()}
    return keras.Model(inputs, heads)


def _apply(layer: Layer, x: keras.KerasTensor, number: int, seeds: object) -> keras.KerasTensor:
    if layer.pool:
        return keras.layers.MaxPooling2D(layer.pool, layer.stride, layer.padding)(x)
    if layer.dense and len(x.shape) == 4:
        x = keras.layers.Flatten()(x)
    x = _kernel(layer, number, seeds)(x)
    if layer.norm:
        x = _norm(number)(x)
    if layer.relu:
        x = keras.layers.ReLU()(x)
    if layer.relu == "instead":
        return x
    slope, shared = keras.initializers.Constant(0.25), None if layer.dense else [1, 2]
    return keras.layers.PReLU(slope, shared_axes=shared, name=f"prelu{number}")(x)


def _kernel(layer: Layer, number: int, seeds: object) -> keras.layers.Layer:
    name, init = f"layer{number}", keras.initializers.HeNormal(seed=seeds)
    if layer.dense:
        return keras.layers.Dense(layer.dense, kernel_initializer=init, name=name)
    shape = (layer.kernel, layer.stride, layer.padding)
    if layer.conv:
        return keras.layers.Conv2D(layer.conv, *shape, kernel_initializer=init, name=name)
    # Keras' fan-in counts all channels as inputs of each depthwise kernel, which has only one.
    depthwise = keras.initializers.RandomNormal(stddev=1 / layer.kernel, seed=seeds)
    initializers = {"depthwise_initializer": depthwise, "pointwise_initializer": init}
    return keras.layers.SeparableConv2D(layer.separable, *shape, **initializers, name=name)


def _norm(number: int) -> keras.layers.Layer:
    # Starts as the identity: a net that begins with weights without norms has the same outputs.
    variance = keras.initializers.Constant(1 - NORM_EPSILON)
    return keras.layers.BatchNormalization(
        epsilon=NORM_EPSILON, moving_variance_initializer=variance, name=f"norm{number}"
    )


def _head(x: keras.KerasTensor, name: str, width: int, seeds: object) -> keras.KerasTensor:
    init = keras.initializers.RandomNormal(stddev=0.01, seed=seeds)
    if len(x.shape) == 4:
        return keras.layers.Conv2D(width, 1, kernel_initializer=init, name=name)(x)
    return keras.layers.Dense(width, kernel_initializer=init, name=name)(x)


def get_weights(model: keras.Model) -> Weights:
    """All arrays of a model by `layer/variable`, in the order of its layers, the heads last."""
    order = [layer for layer in model.layers if layer.weights]
    order.sort(key=lambda layer: list(HEADS).index(layer.name) if layer.name in HEADS else -1)
    return {
        f"{layer.name}/{variable.name}": np.asarray(variable, np.float32)
        for layer in order
        for variable in layer.weights
    }


def one_row_per_crop(outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A net's outputs on crops as (N, values) each: fully convolutional nets give 1 x 1 maps."""
    return {head: tf.reshape(value, [-1, value.shape[-1]]) for head, value in outputs.items()}


def load_compatible_weights(model: keras.Model, weights: Weights) -> list[str]:
    """Load the arrays that fit by name and shape; the names of those that stay initialised."""
    missing = []
    for name, variable in _variables(model):
        array = weights.get(name)
        if array is None or array.shape != tuple(variable.shape):
            missing.append(name)
        else:
            variable.assign(array)
    return missing


def set_weights(model: keras.Model, weights: Weights, origin: str) -> None:
    """Load all arrays of a model by name; those of heads that the model lacks are ignored.

    Raises:
        UserError: an array is missing or has another shape than the model's; `origin` says
            where the weights came from.
    """
    for name, variable in _variables(model):
        array = weights.get(name)
        if array is None or array.shape != tuple(variable.shape):
            found = "is missing" if array is None else f"has the shape {array.shape}"
            raise UserError(
                f"{origin} is of another net: its array {name} {found}, "
                f"the recipe's net needs {tuple(variable.shape)}."
            )
        variable.assign(array)


def _variables(model: keras.Model) -> Iterator[tuple[str, keras.Variable]]:
    """All variables of a model with their names in a weights file."""
    for layer in model.layers:
        for variable in layer.weights:
            yield f"{layer.name}/{variable.name}", variable
