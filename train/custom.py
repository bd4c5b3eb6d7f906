"""A recipe's own callbacks, loss and augmentation: loaded, and tried once before the training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from configs.record_settings import SAMPLE_TYPES
from configs.settings import Settings
from configs.train_settings import TrainSettings
from data_prep.crops import Crops
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NetName
from pipeline import custom_code
from train.losses import Tensors, losses

LossFunction = Callable[[Tensors, Tensors, TrainSettings, Tensors | None], Tensors]
# Crops of a batch and a seed (2,) int32 -> the changed crops; see `docs/python.md`.
Augmentation = Callable[[Crops, tf.Tensor], Crops]
NEGATIVE = SAMPLE_TYPES.index("negative")
TRIED = 16  # crops
ARGUMENTS = {  # of the functions, by setting
    "callbacks": ("settings", "name", "folder"),
    "loss": ("targets", "outputs", "train", "teacher_outputs"),
    "augmentation": ("crops", "seed"),
}


def load_functions(train: TrainSettings, name: NetName) -> None:
    """Refuse functions of a recipe that cannot be loaded; see `custom_code.load`."""
    for reference, key in train.custom_code.items():
        custom_code.load(reference, f"{name}.train.{key}", ARGUMENTS[key])


def make_callbacks(
    settings: Settings, name: NetName, folder: Path
) -> list[keras.callbacks.Callback]:
    """The callbacks of the recipe's `train.callbacks`, made for one training in `folder`.

    Raises:
        UserError: as `custom_code.load`; or a function returns something else.
    """
    made, key = [], f"{name}.train.callbacks"
    for reference in settings.for_net(name).train.callbacks:
        make = custom_code.load(reference, key, ARGUMENTS["callbacks"])
        callback = make(settings, name, folder)
        if not isinstance(callback, keras.callbacks.Callback):
            raise UserError(
                f"{key}: {reference} must return a keras.callbacks.Callback; it returned "
                f"{_described(callback)}."
            )
        made.append(callback)
    return made


def load_loss(train: TrainSettings, name: NetName) -> LossFunction:
    """The recipe's `train.loss`, or the losses of `train.losses`.

    Raises:
        UserError: as `custom_code.load`.
    """
    if train.loss is None:
        return losses
    return custom_code.load(train.loss, f"{name}.train.loss", ARGUMENTS["loss"])


def try_loss(
    loss: LossFunction, outputs: Tensors, train: TrainSettings, name: NetName, teacher: bool
) -> None:
    """Call a user's loss on `TRIED` crops of all kinds and check what it returns.

    Args:
        loss: the function.
        outputs: a net's outputs for `TRIED` crops.
        train: its settings; `train.loss` names it in messages.
        name: of the net.
        teacher: whether there is a teacher.

    Raises:
        UserError: it does not return finite scalars by head.
    """
    parts = loss(_targets(), outputs, train, outputs if teacher else None)
    problem = _loss_problem(parts, list(outputs))
    if problem:
        raise UserError(f"{name}.train.loss: {train.loss} {problem}.")


def _targets() -> Tensors:
    """Targets of every kind of crop; NaN where a kind has none."""
    kinds = np.arange(TRIED) % (len(SAMPLE_TYPES) + 1)  # the last: between negative and part
    rng = np.random.default_rng(0)
    box = rng.normal(0, 0.1, (TRIED, 4)).astype(np.float32)
    landmarks = rng.uniform(0.2, 0.8, (TRIED, 10)).astype(np.float32)
    unboxed = np.isin(kinds, [NEGATIVE, SAMPLE_TYPES.index("landmark")])
    box[unboxed] = np.nan
    landmarks[kinds != SAMPLE_TYPES.index("landmark")] = np.nan
    return {
        "kind": tf.constant(kinds, tf.int32),
        "box": tf.constant(box),
        "landmarks": tf.constant(landmarks),
    }


def _loss_problem(parts: Any, heads: list[str]) -> str:
    """What is wrong with a loss's result, to be read after its name; empty if nothing is."""
    wanted = f"must return a dictionary of float32 scalars, one for each of {', '.join(heads)}"
    if not isinstance(parts, dict):
        return f"{wanted}; it returned {_described(parts)}"
    if set(parts) != set(heads):
        return f"{wanted}; it returned values for {', '.join(map(str, parts)) or 'none'}"
    for head, value in parts.items():
        if not tf.is_tensor(value) or value.shape != () or value.dtype != tf.float32:
            return f"{wanted}; for {head} it returned {_described(value)}"
        if not np.isfinite(value):
            return (
                f"is {float(value)} for {head} on crops of all kinds: box and landmarks of crops "
                "without them are NaN and must be left out before anything is computed with them"
            )
    return ""


def load_augmentation(train: TrainSettings, name: NetName, size: int) -> Augmentation | None:
    """The recipe's `train.augmentation`, tried on a batch of `size` pixels; None for none.

    Raises:
        UserError: as `custom_code.load`; or it returns something else than crops of the same
            shapes; or two calls with the same seed differ.
    """
    if train.augmentation is None:
        return None
    key = f"{name}.train.augmentation"
    augment: Augmentation = custom_code.load(train.augmentation, key, ARGUMENTS["augmentation"])
    crops, seed = _sample_crops(train.batch, size), tf.constant([1, 2], tf.int32)
    first, second = augment(crops, seed), augment(crops, seed)
    problem = _crops_problem(first, crops) or _crops_problem(second, crops)
    if not problem and not all(map(_equal, first, second)):
        problem = (
            "gives different crops for the same seed, so a resumed training would end otherwise: "
            "draw with tf.random.stateless_uniform and the like, from the seed that it gets"
        )
    if problem:
        raise UserError(f"{key}: {train.augmentation} {problem}.")
    return augment


def _sample_crops(count: int, size: int) -> Crops:
    rng = np.random.default_rng(0)
    box = rng.normal(0, 0.1, (count, 4)).astype(np.float32)
    box[::2] = np.nan
    landmarks = rng.uniform(0.2, 0.8, (count, 10)).astype(np.float32)
    landmarks[1::2] = np.nan
    images = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    sides = np.full((count, 1), 30, np.float32)
    return Crops(*map(tf.convert_to_tensor, (images, box, landmarks, sides)))


def _crops_problem(crops: Any, before: Crops) -> str:
    """What is wrong with an augmentation's result; as `_loss_problem`."""
    if not isinstance(crops, Crops):
        return (
            "must return the crops that it gets, with fields replaced "
            f"(crops._replace(images=...)); it returned {_described(crops)}"
        )
    for field in Crops._fields:
        value, wanted = getattr(crops, field), getattr(before, field)
        right = tf.is_tensor(value) and (value.shape, value.dtype) == (wanted.shape, wanted.dtype)
        if not right:
            return f"must return {field} as {_described(wanted)}; it returned {_described(value)}"
    return ""


def _equal(value: tf.Tensor, other: tf.Tensor) -> bool:
    return np.asarray(value).tobytes() == np.asarray(other).tobytes()


def _described(value: Any) -> str:
    """A value in a message: type and shape of a tensor, the type of anything else."""
    if tf.is_tensor(value):
        return f"{value.dtype.name} of shape {tuple(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"
