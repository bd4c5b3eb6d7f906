"""Geometric augmentation: a new window about each stored one, its crop and targets recomputed.

Records hold a margin of pixels around their windows (`records.margin`). From these every batch
cuts windows that are shifted, scaled and rotated anew, so that no crop is seen twice. Landmarks
move exactly. A box stays upright and keeps its size as the face turns beneath it, which is good
enough for the few degrees that boxed crops are rotated by. The kind of a positive or part follows
from the new IoU; that of a negative stands, as it is moved half as far only.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from configs.record_settings import SAMPLE_TYPES, LabelThresholds
from configs.train_settings import AffineSettings
from data_prep.crops import Crops

UNLABELLED = len(SAMPLE_TYPES)  # the kind of a crop between negative and part
POSITIVE, NEGATIVE, PART, LANDMARK = range(len(SAMPLE_TYPES))


class Motion(NamedTuple):
    """How N windows are moved, each (N,) float32."""

    across: tf.Tensor  # shift of the centre, in sides of the window
    down: tf.Tensor
    scale: tf.Tensor  # of the side
    angle: tf.Tensor  # radians


def draw_motion(seed: tf.Tensor, kinds: np.ndarray, settings: AffineSettings) -> Motion:
    """Random motions of (N,) windows of these kinds; some stay where they are."""
    draws = tf.random.stateless_uniform([5, len(kinds)], seed)
    signed = tf.where(draws[4] < settings.probability, 2 * draws[:4] - 1, 0.0)
    shift = settings.shift * np.where(kinds == NEGATIVE, 0.5, 1).astype(np.float32)
    turn = np.where(kinds == LANDMARK, settings.landmark_rotation, settings.rotation)
    return Motion(
        signed[0] * shift,
        signed[1] * shift,
        tf.exp(signed[2] * np.float32(np.log(settings.scale))),
        signed[3] * np.radians(turn).astype(np.float32),
    )


def apply_motion(
    crops: Crops, kinds: np.ndarray, size: int, motion: Motion, labels: LabelThresholds
) -> tuple[Crops, tf.Tensor]:
    """Crops of the moved windows, without margin, and their (N,) kinds."""
    box = _move_boxes(crops.boxes, motion)
    known = tf.reduce_all(tf.math.is_finite(box), axis=1)
    boxed = known & ((kinds == POSITIVE) | (kinds == PART))
    overlap = _iou_with_window(box, labels.squared_faces)
    relabelled = tf.where(overlap >= labels.positive, POSITIVE, PART)
    relabelled = tf.where(overlap >= labels.part, relabelled, UNLABELLED)
    targets = Crops(
        _warp(crops.images, size, motion),
        box,
        _move_landmarks(crops.landmarks, motion),
        crops.sides * motion.scale[:, None],
    )
    return targets, tf.where(boxed, relabelled, tf.constant(kinds, tf.int32))


def _warp(images: tf.Tensor, size: int, motion: Motion) -> tf.Tensor:
    """(N, s, s, 3) crops with margin -> (N, size, size, 3) of the moved windows, bilinear."""
    middle = (images.shape[1] - 1) / 2  # of the stored crop, counted from its first pixel's centre
    cos, sin = motion.scale * tf.cos(motion.angle), motion.scale * tf.sin(motion.angle)
    half = (size - 1) / 2
    first = middle + size * motion.across - half * (cos - sin)
    second = middle + size * motion.down - half * (sin + cos)
    nothing = tf.zeros_like(cos)
    changed = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=tf.stack([cos, -sin, first, sin, cos, second, nothing, nothing], axis=1),
        output_shape=[size, size],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    return tf.cast(tf.round(tf.ensure_shape(changed, [len(images), size, size, 3])), tf.uint8)


def _relative_to_moved(x: tf.Tensor, y: tf.Tensor, motion: Motion) -> tuple[tf.Tensor, tf.Tensor]:
    """(N, k) fractions of the old windows -> fractions of the moved ones."""
    across, down, scale, angle = (part[:, None] for part in motion)
    x, y = x - 0.5 - across, y - 0.5 - down
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    return cos * x + sin * y + 0.5, cos * y - sin * x + 0.5


def _move_landmarks(landmarks: tf.Tensor, motion: Motion) -> tf.Tensor:
    x, y = _relative_to_moved(landmarks[:, :5], landmarks[:, 5:], motion)
    return tf.concat([x, y], axis=1)


def _move_boxes(offsets: tf.Tensor, motion: Motion) -> tf.Tensor:
    """(N, 4) offsets of the faces from the old windows -> from the moved ones."""
    first, last = offsets[:, :2], offsets[:, 2:] + 1
    middle = (first + last) / 2
    x, y = _relative_to_moved(middle[:, :1], middle[:, 1:], motion)
    half = (last - first) / 2 / motion.scale[:, None]
    centre = tf.concat([x, y], axis=1)
    return tf.concat([centre - half, centre + half - 1], axis=1)


def _iou_with_window(offsets: tf.Tensor, squared: bool) -> tf.Tensor:
    """(N, 4) offsets of faces, or of the squares about them -> (N,) IoU with the window."""
    first, last = offsets[:, :2], offsets[:, 2:] + 1
    sides = last - first
    if squared:
        middle = (first + last) / 2
        sides = tf.repeat(tf.reduce_max(sides, axis=1, keepdims=True), 2, axis=1)
        first, last = middle - sides / 2, middle + sides / 2
    shared = tf.maximum(tf.minimum(last, 1.0) - tf.maximum(first, 0.0), 0.0)
    shared = tf.reduce_prod(shared, axis=1)
    return shared / (tf.reduce_prod(sides, axis=1) + 1 - shared)
