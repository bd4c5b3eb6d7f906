"""The three losses of Zhang et al. 2016, section III.C, with online hard example mining.

Which crop teaches what (section III.B): class from positives and negatives, box from positives
and parts. Landmarks are taught by every crop that has them, not by landmark crops alone: they are
what the net will be asked for. A kind without a crop in the batch adds nothing.

A teacher is a net whose answers are learned beside the labels (Hinton et al., "Distilling the
Knowledge in a Neural Network", 2015). It has one for every crop: all then teach the class, and
positives and parts its landmarks as well as their own. Boxes are taught by labels alone.
"""

import tensorflow as tf

from configs.settings import SAMPLE_TYPES, TrainSettings

Tensors = dict[str, tf.Tensor]


def losses(
    targets: Tensors, outputs: Tensors, train: TrainSettings, taught: Tensors | None = None
) -> Tensors:
    """Weighted parts of a batch's loss, each a scalar.

    Args:
        targets: kind (N,), box (N, 4), landmarks (N, 10); NaN where there is none.
        outputs: cls (N, 2) logits, box (N, 4), landmarks (N, 10) if the net has that head.
        train: the weights and the share of hard examples.
        taught: what the teacher says of the crops, in the form of `outputs`.
    """
    positive, negative, part, _ = (targets["kind"] == i for i in range(len(SAMPLE_TYPES)))
    cls, box, landmarks = train.loss_weights
    judged, every = positive | negative, tf.ones_like(positive)
    truth = tf.one_hot(tf.cast(positive, tf.int32), 2)
    if taught:
        share = tf.where(judged, train.distillation_weight, 1.0)[:, None]
        truth = (1 - share) * truth + share * tf.nn.softmax(taught["cls"])
        judged = every
    parts = {
        "cls": cls * hard_mean(class_losses(outputs["cls"], truth), judged, train.ohem_ratio),
        "box": box * mean_distance(outputs["box"], targets["box"], positive | part, train.box_beta),
    }
    if "landmarks" in outputs:
        beta = train.landmark_beta
        distance = mean_distance(outputs["landmarks"], targets["landmarks"], every, beta)
        if taught and "landmarks" in taught:
            given = mean_distance(outputs["landmarks"], taught["landmarks"], positive | part, beta)
            share = train.distillation_weight
            distance = (1 - share) * distance + share * given
        parts["landmarks"] = landmarks * distance
    return parts


def class_losses(logits: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
    """(N, 2) logits and probabilities -> (N,) Kullback-Leibler divergences."""
    crossed = tf.nn.softmax_cross_entropy_with_logits(truth, logits)
    return crossed + tf.reduce_sum(tf.math.xlogy(truth, truth), axis=1)


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
