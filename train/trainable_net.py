"""The Keras model that is fitted: a net with its loss; where it starts and how it is saved."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from configs.settings import NetSettings, Settings
from configs.train_settings import TrainSettings
from models import keras_nets
from models.folding import fold
from models.teacher import Teacher, load_teacher
from mtcnn_detector.architecture import folded, for_crops
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.weight_files import TrainedNet, Weights
from train import custom
from train.custom import LossFunction
from train.losses import Tensors, losses
from train.optimizer import build_optimizer


class TrainableNet(keras.Model):
    """A net with its loss; Keras reports the loss of each head beside the sum."""

    def __init__(
        self,
        net: keras.Model,
        train: TrainSettings,
        teacher: Teacher | None = None,
        loss_function: LossFunction = losses,
    ) -> None:
        super().__init__()
        self.net, self.settings, self._teacher = net, train, teacher
        self._loss_function = loss_function
        heads = [head for head in ("cls", "box", "landmarks") if head in net.output]
        self._means = {head: keras.metrics.Mean(name=head) for head in heads}

    def call(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """(N, s, s, 3) normalised crops -> the net's heads, (N, values) each."""
        return keras_nets.one_row_per_crop(self.net(images, training=training))

    def compute_loss(self, x: Any, y: Any, y_pred: Any, *_: Any, **__: Any) -> tf.Tensor:
        """The sum of the heads' weighted losses."""
        teacher_outputs = self._teacher(x) if self._teacher else None
        parts = self._loss_function(y, y_pred, self.settings, teacher_outputs)
        for head, value in parts.items():
            self._means[head].update_state(value)
        return tf.add_n(list(parts.values()))

    def loss_of(self, targets: Tensors, outputs: Tensors) -> float:
        """The sum of the losses of outputs, without a teacher."""
        parts = self._loss_function(targets, outputs, self.settings, None)
        return float(tf.add_n(list(parts.values())))


def build_trainable(settings: Settings, name: NetName) -> tuple[TrainableNet, Weights]:
    """A compiled net, random or from `init`, and those of its arrays that came from `init`.

    Raises:
        UserError: a weights file cannot be read; a frozen layer is not in `init`; the recipe's
            own loss is missing or does not return losses.
    """
    stage = settings.for_net(name)
    train, init = stage.train, stage.train.init
    net = keras_nets.build(for_crops(stage.net), settings.seed)
    start = {} if init is None else _load_init(Path(init), net, name)
    _freeze(net, stage, name, start)
    teacher = None
    if train.teacher is not None:
        teacher = load_teacher(Path(train.teacher), name, stage.net.size)
    loss_function = custom.load_loss(train, name)
    model, optimizer = TrainableNet(net, train, teacher, loss_function), build_optimizer(train)
    model.compile(optimizer=optimizer, steps_per_execution=1)
    model.build((None, stage.net.size, stage.net.size, 3))
    if train.loss is not None:
        outputs = model(tf.zeros((custom.TRIED, stage.net.size, stage.net.size, 3)))
        custom.try_loss(loss_function, outputs, train, name, teacher is not None)
    optimizer.build(model.trainable_variables)
    return model, start


def with_heads_of_init(settings: Settings, name: NetName) -> Settings:
    """Settings whose net has a landmark head that is not learned only where `init` has one.

    Raises:
        UserError: `init` cannot be read.
    """
    stage = settings.for_net(name)
    init = stage.train.init
    if settings.data.landmarks or not stage.net.landmarks or init is None:
        return settings
    given = weight_files.read_net(Path(init), name).net.landmarks
    return settings.with_net(name, replace(stage, net=replace(stage.net, landmarks=given)))


def _load_init(path: Path, net: keras.Model, name: NetName) -> Weights:
    """Load what fits of a weights file, print what does not; the arrays that were loaded."""
    missing = keras_nets.load_compatible_weights(net, weight_files.read_net(path, name).weights)
    new = f"; new: {', '.join(missing)}" if missing else ""
    print(f"train-{name}: starts from {path}{new}.")
    return {k: value for k, value in keras_nets.get_weights(net).items() if k not in missing}


def _freeze(net: keras.Model, stage: NetSettings, name: NetName, start: Weights) -> None:
    """Exclude the recipe's frozen layers from training; they must come from `init`."""
    missing = [key for key in keras_nets.get_weights(net) if key not in start]
    new = {_setting_name(key.partition("/")[0]) for key in missing}
    for frozen in stage.train.frozen:
        if frozen in new:
            raise UserError(
                f"{stage.train.init} has no {frozen} that fits {name}: take it out of "
                f"{name}.train.frozen, since what is new must learn."
            )
    for layer in net.layers:
        layer.trainable = _setting_name(layer.name) not in stage.train.frozen


def _setting_name(layer: str) -> str:
    """A Keras layer's name in `frozen`: norms and PReLUs belong to the layer before them."""
    return re.sub("^(norm|prelu)", "layer", layer)


def average_with_init(net: keras.Model, fraction: float, start: Weights) -> None:
    """Interpolate a net's weights with those that its training started from, in place.

    Such averages often generalise better than either (Wortsman et al., "Robust fine-tuning of
    zero-shot models", CVPR 2022).

    Args:
        net: the trained net.
        fraction: weight of `start`, 0 up to 1.
        start: the arrays that came from `init`; others stay as they are.
    """
    weights = keras_nets.get_weights(net)
    for key, value in start.items():
        weights[key] = (1 - fraction) * weights[key] + fraction * value
    keras_nets.set_weights(net, weights, "the average")


def save_inference_net(model: keras.Model, stage: NetSettings, name: NetName, folder: Path) -> None:
    """Write `weights.npz`: the folded net, its boxes scaled as the recipe says."""
    weights = keras_nets.get_weights(model)
    if stage.train.box_scale != 1:
        _scale_boxes(weights, (stage.train.box_scale - 1) / 2)
    folded_net = TrainedNet(folded(stage.net), fold(stage.net, weights))
    weight_files.write_own(folder / "weights.npz", folded_net, name)


def _scale_boxes(weights: Weights, growth: float) -> None:
    """Move all four sides of a net's boxes outwards by `growth` of the boxes' sides, in place.

    Offsets are linear in the last layer, so that the boxes of a trained net can be scaled without
    training: with the window's side as the unit, a box has the side 1 + d2 - d1.
    """
    grown = np.eye(4, dtype=np.float32)
    for low, high in ((0, 2), (1, 3)):
        grown[[low, high], [low, high]] += growth
        grown[low, high] = grown[high, low] = -growth
    outwards = np.array([-growth, -growth, growth, growth], np.float32)
    weights["box/kernel"] = weights["box/kernel"] @ grown
    weights["box/bias"] = weights["box/bias"] @ grown + outwards


def adopt_init(settings: Settings, name: NetName, folder: Path) -> None:
    """Write the net of `init` as it is, where the recipe asks for no step of training.

    Raises:
        UserError: `init` lacks an array that only a training could provide.
    """
    stage = with_heads_of_init(settings, name).for_net(name)
    path, net = Path(stage.train.init or ""), keras_nets.build(for_crops(stage.net), settings.seed)
    start = _load_init(path, net, name)
    missing = [key for key in keras_nets.get_weights(net) if key not in start]
    # A new norm is the identity; landmarks are only read from the last net.
    optional = ("norm", "landmarks/") if name != NETS[-1] else ("norm",)
    needed = [key for key in missing if not key.startswith(optional)]
    if needed:
        raise UserError(
            f"{path} has no {needed[0]} that fits {name}, and without steps nothing is learned: "
            f"raise {name}.train.steps"
            + (", or set data.landmarks=false." if "landmarks/" in needed[0] else ".")
        )
    landmarks = stage.net.landmarks and not any("landmarks/" in key for key in missing)
    adopted = replace(stage, net=replace(stage.net, landmarks=landmarks))
    save_inference_net(net, adopted, name, folder)
