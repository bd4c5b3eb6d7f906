"""The distillation teacher: a trained net whose outputs another one learns beside its labels."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from models import keras_nets
from mtcnn_detector.architecture import for_crops
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NetName
from mtcnn_detector.weights import weight_files

# (N, s, s, 3) normalised crops -> the net's heads, as `keras_nets.one_row_per_crop` gives them.
Teacher = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def load_teacher(path: Path, name: NetName, size: int) -> Teacher:
    """One net of a weights file as a function of crops; its layers may differ from the student's.

    A function, not a model: Keras would train and save a model that another model refers to.

    Args:
        path: a weights file of any known layout.
        name: which net of it.
        size: side of the crops that the student takes, pixels.

    Raises:
        UserError: the file has no such net, or its input size is another one.
    """
    trained = weight_files.read_net(path, name)
    if trained.net.size != size:
        raise UserError(
            f"{path} cannot teach {name}: its {name} takes crops of {trained.net.size} pixels, "
            f"not {size}."
        )
    model = keras_nets.build(for_crops(trained.net))
    keras_nets.set_weights(model, trained.weights, f"the {name} of {path}")
    return lambda images: keras_nets.one_row_per_crop(model(images, training=False))
