"""Box arithmetic and NMS of the cascade as TensorFlow operations; see `mtcnn_detector.boxes`."""

import tensorflow as tf


def truncate(values: tf.Tensor) -> tf.Tensor:
    """Whole numbers, towards zero."""
    return tf.sign(values) * tf.floor(tf.abs(values))


def to_windows(boxes: tf.Tensor) -> tf.Tensor:
    """(N, 4) reported boxes -> half-open windows of pixels; see `mtcnn_detector.boxes`."""
    return boxes - tf.constant([1, 1, 0, 0], boxes.dtype)


def sides(windows: tf.Tensor) -> tf.Tensor:
    """(N, 4): width, height, width, height."""
    return tf.tile(windows[:, 2:] - windows[:, :2], [1, 2])


def to_squares(boxes: tf.Tensor) -> tf.Tensor:
    """Squares of whole pixels about the boxes' centres; those without a pixel are dropped."""
    lengths = boxes[:, 2:] - boxes[:, :2]
    longest = tf.reduce_max(lengths, axis=1, keepdims=True)
    first = boxes[:, :2] + lengths / 2 - longest / 2
    squares = truncate(tf.concat([first, first + longest], axis=1))
    whole = tf.reduce_all(squares[:, 2:] - squares[:, :2] >= 1, axis=1)
    return tf.boolean_mask(squares, whole)


def nms(windows: tf.Tensor, scores: tf.Tensor, threshold: float) -> tf.Tensor:
    """Indices of the windows to keep by IoU, best first."""
    count = tf.shape(scores)[0]
    return tf.image.non_max_suppression(tf.cast(windows, tf.float32), scores, count, threshold)


def nms_over_smaller(windows: tf.Tensor, scores: tf.Tensor, threshold: float) -> tf.Tensor:
    """As `nms`, by the intersection over the smaller area; of equal scores the last first."""
    windows, scores = windows[::-1], scores[::-1]
    first = tf.maximum(windows[:, None, :2], windows[None, :, :2])
    last = tf.minimum(windows[:, None, 2:], windows[None, :, 2:])
    shared = tf.reduce_prod(tf.maximum(last - first, 0), axis=2)
    areas = tf.reduce_prod(tf.maximum(windows[:, 2:] - windows[:, :2], 0), axis=1)
    smaller = tf.maximum(tf.minimum(areas[:, None], areas[None, :]), 1e-9)
    overlaps = tf.cast(shared / smaller, tf.float32)
    count = tf.shape(scores)[0]
    keep = tf.image.non_max_suppression_overlaps(overlaps, scores, count, threshold)
    return count - 1 - keep
