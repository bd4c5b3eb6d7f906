"""P-Net, R-Net and O-Net: one description, three settings, built as Keras models.

A net takes float32 [N, H, W, 3], RGB, normalised by `pixels.normalise`, and gives

    face    [N, 2]   logits (not face, face)
    box     [N, 4]   offsets in the frame of the net's window (see `boxes`)
    landmarks  [N, 10]  x1..x5, y1..y5 as fractions of the window (where the net has that head)

P-Net has no dense layer: it runs over pictures of any size and gives maps [N, h, w, ...].
"""

import keras
import numpy as np

from mtcnn_detector.architecture import NORM_EPSILON
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import HEADS, Layer, Net
from mtcnn_detector.weights.net_weights import Weights


def build(net: Net, seed: int = 0) -> keras.Model:
    """A freshly initialised Keras model of the net, its outputs a dictionary of heads."""
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
    start, shared = keras.initializers.Constant(0.25), None if layer.dense else [1, 2]
    return keras.layers.PReLU(start, shared_axes=shared, name=f"prelu{number}")(x)


def _kernel(layer: Layer, number: int, seeds: object) -> keras.layers.Layer:
    name, init = f"layer{number}", keras.initializers.HeNormal(seed=seeds)
    if layer.dense:
        return keras.layers.Dense(layer.dense, kernel_initializer=init, name=name)
    shape = (layer.kernel, layer.stride, layer.padding)
    if layer.conv:
        return keras.layers.Conv2D(layer.conv, *shape, kernel_initializer=init, name=name)
    # Keras would count all channels as inputs of each depthwise kernel, which has but one.
    even = keras.initializers.RandomNormal(stddev=1 / layer.kernel, seed=seeds)
    starts = {"depthwise_initializer": even, "pointwise_initializer": init}
    return keras.layers.SeparableConv2D(layer.separable, *shape, **starts, name=name)


def _norm(number: int) -> keras.layers.Layer:
    # At first it changes nothing, so that a net which starts from weights without it is that net.
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
    """All arrays of a model by name, in the order of its layers (class, box, landmarks last)."""
    order = [layer for layer in model.layers if layer.weights]
    order.sort(key=lambda layer: list(HEADS).index(layer.name) if layer.name in HEADS else -1)
    return {
        f"{layer.name}/{variable.name}": np.asarray(variable, np.float32)
        for layer in order
        for variable in layer.weights
    }


def load_compatible_weights(model: keras.Model, weights: Weights) -> list[str]:
    """Put in the arrays that fit by name and shape; the names of those that stay as they were."""
    fresh = []
    for layer in model.layers:
        for variable in layer.weights:
            name = f"{layer.name}/{variable.name}"
            given = weights.get(name)
            if given is None or given.shape != tuple(variable.shape):
                fresh.append(name)
            else:
                variable.assign(given)
    return fresh


def set_weights(model: keras.Model, weights: Weights, origin: str) -> None:
    """Put arrays into a model by name.

    Raises:
        UserError: an array is missing or has another shape than the model's; `origin` says
            where the weights came from. A head that only the weights have is left out.
    """
    for layer in model.layers:
        for variable in layer.weights:
            name = f"{layer.name}/{variable.name}"
            given = weights.get(name)
            if given is None or given.shape != tuple(variable.shape):
                found = "is missing" if given is None else f"has the shape {given.shape}"
                raise UserError(
                    f"{origin} is of another net: its array {name} {found}, "
                    f"the recipe's net needs {tuple(variable.shape)}."
                )
            variable.assign(given)
