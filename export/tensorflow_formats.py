"""TensorFlow SavedModel and LiteRT: nets that run without this project.

All deployment formats have one folder with a file or folder for each net, and one interface:
`pixels` [N, H, W, 3], RGB from 0 to 255, in; out come `face` [N] (probability), `box` [N, 4]
and, of the last net, `landmarks` [N, 10], as `keras_nets` describes them. P-Net takes pictures of
any size, and gives maps [N, h, w, ...].
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from models import keras_nets
from mtcnn_detector.backend import Outputs, Predict, to_run
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.pixels import Image, normalise
from mtcnn_detector.weights.weight_files import TrainedNet
from pipeline import tf_setup

# The nets whose int8 models compute in whole numbers throughout. Where all three do, the cascade
# loses a hundredth of AP; with only the weights of the last one in int8 it does not.
WHOLE = NETS[:-1]


class _Deployed(tf.Module):
    """A net with the interface of the deployment formats."""

    def __init__(self, name: NetName, trained: TrainedNet) -> None:
        super().__init__(name)
        net = to_run(name, trained.net)
        self._model = model = keras_nets.build(net)
        keras_nets.set_weights(model, trained.weights, f"the {name} to export")
        # Constants of the graph: the converter to LiteRT leaves variables empty.
        both = (model.trainable_variables, model.non_trainable_variables)
        self._constants = [[np.asarray(variable) for variable in group] for group in both]
        side = None if net.convolutional else net.size
        signature = [tf.TensorSpec([None, side, side, 3], tf.float32, name="pixels")]
        self.run = tf.function(self._heads, input_signature=signature, autograph=False)

    def _heads(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        heads, _ = self._model.stateless_call(*self._constants, normalise(pixels), training=False)
        score = tf.nn.softmax(heads.pop("cls"))[..., 1]
        return {"score": score, **heads}


def write_savedmodel(path: Path, name: NetName, trained: TrainedNet) -> None:
    """Write a folder that `tf.saved_model.load` and TensorFlow Serving read."""
    net = _Deployed(name, trained)
    with tf_setup.silence():  # the converter tells its inner steps
        tf.saved_model.save(net, str(path), signatures=net.run)


def run_savedmodel(path: Path) -> Predict:
    """The outputs of such a folder."""
    loaded = tf.saved_model.load(str(path))

    def run(pixels: Image) -> Outputs:
        heads = loaded.signatures["serving_default"](tf.constant(pixels, tf.float32))
        return Outputs.from_heads({key: value.numpy() for key, value in heads.items()})

    return run


def tflite(name: NetName, trained: TrainedNet, seen: Sequence[Image] = ()) -> bytes:
    """A LiteRT model; int8 (as far as `WHOLE` says) if it is told what the net sees.

    Args:
        name: which net.
        trained: the net.
        seen: batches of (N, H, W, 3) uint8 pixels, from which the ranges of values are taken.
    """
    net = _Deployed(name, trained)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [net.run.get_concrete_function()], net
    )
    if seen:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if seen and name in WHOLE:
        converter.representative_dataset = lambda: ([x.astype(np.float32)] for x in seen)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    with tf_setup.silence():  # the converter tells its inner steps
        model: bytes = converter.convert()
    return model


def run_tflite(path: Path) -> Predict:
    """The outputs of a LiteRT model."""
    with warnings.catch_warnings(), tf_setup.silence():
        warnings.simplefilter("ignore")  # of the interpreter's move to a package of its own
        interpreter = tf.lite.Interpreter(str(path), num_threads=1)
    runner = interpreter.get_signature_runner()
    dtype = runner.get_input_details()["pixels"]["dtype"]

    def run(pixels: Image) -> Outputs:
        # Our crops keep fractions of grey levels, which whole numbers would cut off.
        whole = np.rint(pixels) if np.issubdtype(dtype, np.integer) else pixels
        return Outputs.from_heads(runner(pixels=whole.astype(dtype)))

    return run
