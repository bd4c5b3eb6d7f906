"""A trained net as one with fewer sorts of layers that gives the same outputs.

Batch normalisation becomes part of the kernel before it, an extra ReLU a PReLU whose slope is
0. Files, the detector and the export only ever meet folded nets.
"""

import numpy as np

from mtcnn_detector.architecture import NORM_EPSILON, folded, shapes
from mtcnn_detector.net import Layer, Net
from mtcnn_detector.weights.weight_files import Weights


def fold(net: Net, weights: Weights) -> Weights:
    """The arrays of the folded net, from those of `net`."""
    held = dict(weights)
    for number, layer in enumerate(net.layers, 1):
        if layer.norm:
            _fold_norm(layer, number, held)
    plain = folded(net)
    slopes = {f"prelu{n}/alpha" for n, layer in enumerate(net.layers, 1) if layer.relu}
    return {k: np.zeros(s, np.float32) if k in slopes else held[k] for k, s in shapes(plain)}


def _fold_norm(layer: Layer, number: int, held: Weights) -> None:
    """Scale a layer's outputs, and move them, in its own kernel and bias."""
    kernel = f"layer{number}/{'pointwise_' if layer.separable else ''}kernel"
    bias = f"layer{number}/bias"
    arrays = ("gamma", "beta", "moving_mean", "moving_variance")
    gamma, beta, mean, variance = (held[f"norm{number}/{key}"].astype(float) for key in arrays)
    scale = gamma / np.sqrt(variance + NORM_EPSILON)
    held[kernel] = (held[kernel] * scale).astype(np.float32)
    held[bias] = ((held[bias] - mean) * scale + beta).astype(np.float32)
