"""The net that is trained: a Keras model with its loss, where it starts, what of it is kept."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from configs.settings import NetSettings, Settings, TrainSettings
from models import keras_nets
from models.folding import fold
from mtcnn_detector.architecture import folded, for_crops
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.weight_files import TrainedNet, Weights
from train.losses import losses

Teacher = Callable[
    [tf.Tensor], dict[str, tf.Tensor]
]  # crops -> what losses take as teacher_outputs


class TrainableNet(keras.Model):
    """A net with its loss; Keras reports each part of it beside the sum."""

    def __init__(
        self, net: keras.Model, train: TrainSettings, teacher: Teacher | None = None
    ) -> None:
        super().__init__()
        self.net, self.settings, self._teacher = net, train, teacher
        heads = [head for head in ("cls", "box", "landmarks") if head in net.output]
        self._parts = {head: keras.metrics.Mean(name=head) for head in heads}

    def call(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """The net's heads, one row a crop."""
        return _rows(self.net(images, training=training))

    def compute_loss(self, x: Any, y: Any, y_pred: Any, *_: Any, **__: Any) -> tf.Tensor:
        """The sum of the weighted parts."""
        teacher_outputs = self._teacher(x) if self._teacher else None
        parts = losses(y, y_pred, self.settings, teacher_outputs)
        for head, value in parts.items():
            self._parts[head].update_state(value)
        return tf.add_n(list(parts.values()))


def _rows(outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A fully convolutional net gives a map of one cell."""
    return {head: tf.reshape(value, [-1, value.shape[-1]]) for head, value in outputs.items()}


def average(net: keras.Model, share: float, start: Weights) -> None:
    """Give the weights that a training started from this share in those that it has reached.

    Such averages often find more than either (Wortsman et al., "Robust fine-tuning of zero-shot
    models", CVPR 2022).
    """
    weights = keras_nets.get_weights(net)
    for key, value in start.items():
        weights[key] = (1 - share) * weights[key] + share * value
    keras_nets.set_weights(net, weights, "the average")


def save_inference_net(model: keras.Model, stage: NetSettings, name: NetName, folder: Path) -> None:
    """Write what a training has reached, as a folded net, its outputs shifted as the stage says.

    A shift of the class head moves the net's working point, for detectors whose thresholds are
    given; one of the landmarks makes up for detectors that cut off fractions of pixels.
    """
    weights = keras_nets.get_weights(model)
    half = np.float32(stage.train.score_shift / 2)
    weights["cls/bias"] = weights["cls/bias"] + np.stack([-half, half])
    if "landmarks/bias" in weights:
        weights["landmarks/bias"] = weights["landmarks/bias"] + np.float32(
            stage.train.landmark_shift
        )
    folded_net = TrainedNet(folded(stage.net), fold(stage.net, weights))
    weight_files.write_own(folder / "weights.npz", folded_net, name)


def adopt_init(settings: Settings, name: NetName, folder: Path) -> None:
    """Write the net that training would start from.

    Raises:
        UserError: its init lacks something of it that only a training could give it.
    """
    stage = settings.stage(name)
    path, net = Path(stage.train.init or ""), keras_nets.build(for_crops(stage.net), settings.seed)
    start = _load_init(path, net, name)
    fresh = [key for key in keras_nets.get_weights(net) if key not in start]
    # A norm starts as one that changes nothing; only the last net's landmarks are ever read.
    spare = ("norm", "landmarks/") if name != NETS[-1] else ("norm",)
    lacking = [key for key in fresh if not key.startswith(spare)]
    if lacking:
        raise UserError(
            f"{path} has no {lacking[0]} that fits {name}, and without steps nothing is learned: "
            f"raise {name}.train.steps."
        )
    kept = replace(
        stage.net, landmarks=stage.net.landmarks and not any("landmarks/" in k for k in fresh)
    )
    save_inference_net(net, replace(stage, net=kept), name, folder)


def build_trainable(settings: Settings, name: NetName) -> tuple[TrainableNet, Weights]:
    """A net that is new or starts from `init`, ready for `fit`; and what of it is from there."""
    stage = settings.stage(name)
    net, init = keras_nets.build(for_crops(stage.net), settings.seed), stage.train.init
    start = {} if init is None else _load_init(Path(init), net, name)
    fresh = {
        _setting_name(key.partition("/")[0])
        for key in keras_nets.get_weights(net)
        if key not in start
    }
    for frozen in stage.train.frozen:
        if frozen in fresh:
            raise UserError(
                f"{init} has no {frozen} that fits {name}: take it out of {name}.train.frozen, "
                "since what is new must learn."
            )
    for layer in net.layers:
        layer.trainable = _setting_name(layer.name) not in stage.train.frozen
    model = TrainableNet(net, stage.train, _teacher(stage, name))
    average = stage.train.ema_decay
    optimizer = keras.optimizers.Adam(
        learning_rate_schedule(stage.train), use_ema=average > 0, ema_momentum=average or 0.99
    )
    model.compile(optimizer=optimizer, steps_per_execution=1)
    model.build((None, stage.net.size, stage.net.size, 3))
    optimizer.build(model.trainable_variables)
    return model, start


def _teacher(stage: NetSettings, name: NetName) -> Teacher | None:
    """What asks the net that teaches; it may have other layers.

    A function, as Keras would save and set a model that another one holds along with it.
    """
    if stage.train.teacher is None:
        return None
    path = Path(stage.train.teacher)
    trained = weight_files.read_net(path, name)
    if trained.net.size != stage.net.size:
        raise UserError(
            f"{path} cannot teach {name}: it looks at {trained.net.size} pixels, not "
            f"{stage.net.size}."
        )
    teacher = keras_nets.build(for_crops(trained.net))
    keras_nets.set_weights(teacher, trained.weights, f"the {name} of {path}")
    return lambda images: _rows(teacher(images, training=False))


def _setting_name(layer: str) -> str:
    """The name of the setting that a Keras layer belongs to: a norm and a PReLU to their layer."""
    return re.sub("^(norm|prelu)", "layer", layer)


def _load_init(path: Path, net: keras.Model, name: NetName) -> Weights:
    """Take over, and return, what a weights file has of a net; say what it has not."""
    fresh = keras_nets.load_compatible_weights(net, weight_files.read_net(path, name).weights)
    told = f"; new: {', '.join(fresh)}" if fresh else ""
    print(f"train-{name}: starts from {path}{told}.")
    return {key: value for key, value in keras_nets.get_weights(net).items() if key not in fresh}


def learning_rate_schedule(train: TrainSettings) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up, then a cosine down to the final learning rate."""
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=train.learning_rate / 100,
        decay_steps=max(train.steps - train.warmup_steps, 1),
        alpha=train.final_learning_rate / train.learning_rate,
        warmup_target=train.learning_rate,
        warmup_steps=train.warmup_steps,
    )
