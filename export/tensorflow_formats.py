"""TensorFlow SavedModel and LiteRT models of single nets.

All deployment formats hold a file or folder for each net, with one interface: `pixels`
[N, H, W, 3] float32, RGB, 0 to 255, in; out come `score` [N], the probability of a face, `box`
[N, 4] and, of O-Net, `landmarks` [N, 10], as `keras_nets` describes them. P-Net takes images of
any size, and its outputs are maps [N, h, w, ...].
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models import keras_nets
from mtcnn_detector.backend import Outputs, Predict, inference_net
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.pixels import Image, normalise
from mtcnn_detector.weights.weight_files import TrainedNet
from pipeline import tf_setup

# The nets whose int8 models compute in whole numbers throughout. Where all three do, the cascade
# loses 0.01 of AP; with only the weights of the last one in int8 it does not.
WHOLE_INT8 = NETS[:-1]


class DeployedNet(tf.Module):
    """A net with the interface of the deployment formats."""

    def __init__(self, name: NetName, trained: TrainedNet) -> None:
        super().__init__(name)
        net = inference_net(name, trained.net)
        self.size = net.size
        self._model = model = keras_nets.build(net)
        keras_nets.set_weights(model, trained.weights, f"the {name} to export")
        # Constants of the graph: the converter to LiteRT leaves variables empty.
        variables = (model.trainable_variables, model.non_trainable_variables)
        self._constants = [[np.asarray(variable) for variable in group] for group in variables]
        side = None if net.convolutional else net.size
        signature = [tf.TensorSpec([None, side, side, 3], tf.float32, name="pixels")]
        self.run = tf.function(self.heads, input_signature=signature, autograph=False)

    def heads(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """[N, H, W, 3] float32, 0 to 255 -> `score`, `box` and, of O-Net, `landmarks`."""
        heads, _ = self._model.stateless_call(*self._constants, normalise(pixels), training=False)
        score = tf.nn.softmax(heads.pop("cls"))[..., 1]
        return {"score": score, **heads}


def write_savedmodel(path: Path, name: NetName, trained: TrainedNet) -> None:
    """Write a folder that `tf.saved_model.load` and TensorFlow Serving read."""
    net = DeployedNet(name, trained)
    with tf_setup.silence():  # the converter logs its inner steps
        tf.saved_model.save(net, str(path), signatures=net.run)


def load_savedmodel(path: Path) -> Predict:
    """A function that runs such a folder's net on a batch."""
    loaded = tf.saved_model.load(str(path))

    def predict(pixels: NDArray[Any]) -> Outputs:
        heads = loaded.signatures["serving_default"](tf.constant(pixels, tf.float32))
        return Outputs.from_heads({key: value.numpy() for key, value in heads.items()})

    return predict


def tflite_model(name: NetName, trained: TrainedNet, batches: Sequence[Image] = ()) -> bytes:
    """A LiteRT model; int8 (as far as `WHOLE_INT8` says) where there are calibration batches.

    Args:
        name: which net.
        trained: the net.
        batches: (N, H, W, 3) uint8 pixels each, from which the ranges of values are taken.
    """
    net = DeployedNet(name, trained)
    function = net.run.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], net)
    if batches:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if batches and name in WHOLE_INT8:
        converter.representative_dataset = lambda: ([x.astype(np.float32)] for x in batches)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    with tf_setup.silence():  # the converter logs its inner steps
        model: bytes = converter.convert()
    return _with_nominal_input(model, net.size)


def _with_nominal_input(model: bytes, size: int) -> bytes:
    """A LiteRT model whose unknown input sides are `size` until they are resized.

    The converter declares them as 1 pixel, of which P-Net's convolutions cannot be allocated.
    Inputs and outputs also get the names that their signature has.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    content = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    (graph,), (signature,) = content.subgraphs, content.signatureDefs
    for tensor in (*signature.inputs, *signature.outputs):
        graph.tensors[tensor.tensorIndex].name = tensor.name
    shape = graph.tensors[graph.inputs[0]].shape
    shape[1:3] = size, size
    return bytes(flatbuffer_utils.convert_object_to_bytearray(content))


def load_tflite(path: Path) -> Predict:
    """A function that runs a LiteRT model on a batch."""
    from ai_edge_litert.interpreter import Interpreter

    with tf_setup.silence():  # the interpreter logs which delegate it makes
        interpreter = Interpreter(str(path), num_threads=1)
        runner = interpreter.get_signature_runner()
    dtype = runner.get_input_details()["pixels"]["dtype"]

    def predict(pixels: NDArray[Any]) -> Outputs:
        # Crops keep fractions of grey levels: rounded, as a cast would truncate them.
        inputs = np.rint(pixels) if np.issubdtype(dtype, np.integer) else pixels
        return Outputs.from_heads(runner(pixels=inputs.astype(dtype)))

    return predict
