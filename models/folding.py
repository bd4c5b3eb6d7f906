"""Folding: batch norms and extra ReLUs absorbed into layers that every weights file can hold.

A batch norm becomes part of the kernel before it, an extra ReLU a PReLU of slope 0; the outputs
stay the same. Files, the detector and the export only ever meet folded nets.
"""

import numpy as np

from mtcnn_detector.architecture import NORM_EPSILON, folded, shapes
from mtcnn_detector.net import Layer, Net
from mtcnn_detector.weights.weight_files import Weights


def fold(net: Net, weights: Weights) -> Weights:
    """The arrays of `architecture.folded(net)`, from those of `net`; by name, in its order."""
    arrays = dict(weights)
    for number, layer in enumerate(net.layers, 1):
        if layer.norm:
            _fold_norm(layer, number, arrays)
    zeros = {f"prelu{n}/alpha" for n, layer in enumerate(net.layers, 1) if layer.relu}
    return {
        key: np.zeros(shape, np.float32) if key in zeros else arrays[key]
        for key, shape in shapes(folded(net))
    }


def _fold_norm(layer: Layer, number: int, weights: Weights) -> None:
    """Put a batch norm's scale and shift into the kernel and bias of its layer, in place."""
    kernel = f"layer{number}/{'pointwise_' if layer.separable else ''}kernel"
    bias = f"layer{number}/bias"
    keys = ("gamma", "beta", "moving_mean", "moving_variance")
    gamma, beta, mean, variance = (weights[f"norm{number}/{key}"].astype(float) for key in keys)
    scale = gamma / np.sqrt(variance + NORM_EPSILON)
    weights[kernel] = (weights[kernel] * scale).astype(np.float32)
    weights[bias] = ((weights[bias] - mean) * scale + beta).astype(np.float32)
