"""The three losses of Zhang et al. 2016, section III.C, with online hard example mining.

Which crop teaches what (section III.B): class from positives and negatives, box from positives
and parts. Points are taught by every crop that has them, not by landmark crops alone: they are
what the net will be asked for. A kind without a crop in the batch adds nothing.
"""

import tensorflow as tf

from configs.settings import KINDS, Train

Tensors = dict[str, tf.Tensor]


def losses(targets: Tensors, outputs: Tensors, train: Train) -> Tensors:
    """Weighted parts of a batch's loss, each a scalar.

    Args:
        targets: kind (N,), box (N, 4), points (N, 10); NaN where there is none.
        outputs: face (N, 2) logits, box (N, 4), points (N, 10) if the net has that head.
        train: the weights and the share of hard examples.
    """
    positive, negative, part, _ = (targets["kind"] == i for i in range(len(KINDS)))
    face, box, points = train.loss_weights
    judged = positive | negative
    parts = {
        "face": face * hard_mean(class_losses(outputs["face"], positive), judged, train.hard_share),
        "box": box * mean_distance(outputs["box"], targets["box"], positive | part, train.box_beta),
    }
    if "points" in outputs:
        every = tf.ones_like(positive)
        distance = mean_distance(outputs["points"], targets["points"], every, train.points_beta)
        parts["points"] = points * distance
    return parts


def class_losses(logits: tf.Tensor, is_face: tf.Tensor) -> tf.Tensor:
    """(N, 2) logits and (N,) truth -> (N,) cross-entropies."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(is_face, tf.int32), logits)


def hard_mean(values: tf.Tensor, counted: tf.Tensor, share: float) -> tf.Tensor:
    """Mean of the largest `share` of the counted values; 0 when none is counted."""
    count = tf.reduce_sum(tf.cast(counted, tf.float32))
    kept = tf.math.ceil(share * count)
    ordered = tf.sort(tf.where(counted, values, 0.0), direction="DESCENDING")
    among = tf.cast(tf.range(tf.shape(values)[0]), tf.float32) < kept
    return tf.reduce_sum(tf.where(among, ordered, 0.0)) / tf.maximum(kept, 1.0)


def mean_distance(
    outputs: tf.Tensor, targets: tf.Tensor, counted: tf.Tensor, beta: float | None
) -> tf.Tensor:
    """Mean over the counted rows with a target of the rows' distances; 0 for none.

    Squared Euclidean where `beta` is None; else smooth L1 (Girshick, "Fast R-CNN", 2015):
    linear, so that a few crops far off do not drown the others, but quadratic below `beta`.
    """
    counted &= tf.reduce_all(tf.math.is_finite(targets), axis=1)
    # The unknown is masked before the difference: a NaN would pass through a gradient of 0.
    known = tf.where(counted[:, None], targets, outputs)
    distances = tf.reduce_sum(smooth(outputs - known, beta), axis=1)
    return tf.reduce_sum(distances) / tf.maximum(tf.reduce_sum(tf.cast(counted, tf.float32)), 1.0)


def smooth(errors: tf.Tensor, beta: float | None) -> tf.Tensor:
    """Each error's square; with a `beta` its smooth L1."""
    if beta is None:
        return tf.square(errors)
    size = tf.abs(errors)
    return tf.where(size < beta, tf.square(errors) / (2 * beta), size - beta / 2)
