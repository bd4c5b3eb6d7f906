"""MTCNN's three losses with online hard example mining (Zhang et al. 2016, sections III.B, III.C).

The class is learned from positives and negatives, the box from positives and parts. Landmarks are
learned from every crop that has them, not from landmark crops alone, since the net is asked for
them in every face. A sample type that is missing in a batch adds nothing.

Distillation (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015): a teacher net
gives outputs for every crop. All crops then teach the class, and positives and parts the
teacher's landmarks beside their own. Boxes are learned from labels alone.
"""

import tensorflow as tf

from configs.record_settings import SAMPLE_TYPES
from configs.train_settings import TrainSettings

Tensors = dict[str, tf.Tensor]


def losses(
    targets: Tensors, outputs: Tensors, train: TrainSettings, teacher_outputs: Tensors | None = None
) -> Tensors:
    """The weighted loss of each head on a batch, each a scalar.

    Args:
        targets: kind (N,), box (N, 4), landmarks (N, 10); NaN where there is none.
        outputs: cls (N, 2) logits, box (N, 4), landmarks (N, 10) if the net has that head.
        train: the weights of the heads and the fraction of hard examples.
        teacher_outputs: the teacher's outputs for the same crops, in the form of `outputs`.
    """
    positive, negative, part, _ = (targets["kind"] == i for i in range(len(SAMPLE_TYPES)))
    cls, box, landmarks = train.loss_weights
    has_class, all_crops = positive | negative, tf.ones_like(positive)
    class_targets = tf.one_hot(tf.cast(positive, tf.int32), 2)
    if teacher_outputs:
        weight = tf.where(has_class, train.distillation_weight, 1.0)[:, None]
        soft_targets = tf.nn.softmax(teacher_outputs["cls"])
        class_targets = (1 - weight) * class_targets + weight * soft_targets
        has_class = all_crops
    divergences = class_divergences(outputs["cls"], class_targets)
    box_loss = regression_loss(outputs["box"], targets["box"], positive | part, train.box_beta)
    parts = {
        "cls": cls * ohem_mean(divergences, has_class, train.ohem_ratio),
        "box": box * box_loss,
    }
    if "landmarks" in outputs:
        beta = train.landmark_beta
        loss = regression_loss(outputs["landmarks"], targets["landmarks"], all_crops, beta)
        if teacher_outputs and "landmarks" in teacher_outputs:
            soft_targets = teacher_outputs["landmarks"]
            soft = regression_loss(outputs["landmarks"], soft_targets, positive | part, beta)
            loss = (1 - train.distillation_weight) * loss + train.distillation_weight * soft
        parts["landmarks"] = landmarks * loss
    return parts


def class_divergences(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """(N, 2) logits and target probabilities -> (N,) Kullback-Leibler divergences.

    With hard targets that is the cross-entropy; with soft ones it is 0 where the net agrees.
    """
    cross_entropy = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
    return cross_entropy + tf.reduce_sum(tf.math.xlogy(targets, targets), axis=1)


def ohem_mean(values: tf.Tensor, mask: tf.Tensor, ratio: float) -> tf.Tensor:
    """Online hard example mining: the mean of the largest `ratio` of the (N,) masked values.

    At least one value counts; 0 when the mask is empty. The threshold is found outside of the
    gradient, which then is a mask in place of the scatter of a sort; values equal to the
    threshold share what is left of the count.
    """
    count = tf.reduce_sum(tf.cast(mask, tf.float32))
    # 0.3 in 32 bits is a little more than 0.3: a whole product must not count one value more.
    kept = tf.math.ceil(ratio * (1 - 1e-6) * count)
    fixed = tf.where(mask, tf.stop_gradient(values), values.dtype.min)
    threshold = tf.sort(fixed, direction="DESCENDING")[tf.cast(tf.maximum(kept, 1.0), tf.int32) - 1]
    above = tf.cast(mask & (fixed > threshold), tf.float32)
    equal = tf.cast(mask & (fixed == threshold), tf.float32)
    remaining = (kept - tf.reduce_sum(above)) / tf.maximum(tf.reduce_sum(equal), 1.0)
    weights = above + remaining * equal
    # A NaN among the masked values has a weight of 0 and must not be lost: NaN * 0 is NaN.
    return tf.reduce_sum(weights * tf.where(mask, values, 0.0)) / tf.maximum(kept, 1.0)


def regression_loss(
    outputs: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor, beta: float | None
) -> tf.Tensor:
    """Mean over the masked rows with finite targets of each row's summed loss; 0 for none.

    Squared error where `beta` is None, else smooth L1 (Girshick, "Fast R-CNN", 2015), which is
    quadratic below `beta` and linear above it, so that outliers do not dominate.
    """
    mask &= tf.reduce_all(tf.math.is_finite(targets), axis=1)
    # NaN targets are replaced before the difference: NaN times a gradient of 0 is NaN.
    known = tf.where(mask[:, None], targets, outputs)
    per_row = tf.reduce_sum(pointwise_loss(outputs - known, beta), axis=1)
    return tf.reduce_sum(per_row) / tf.maximum(tf.reduce_sum(tf.cast(mask, tf.float32)), 1.0)


def pointwise_loss(errors: tf.Tensor, beta: float | None) -> tf.Tensor:
    """Squared errors, or their smooth L1 where `beta` is a number."""
    if beta is None:
        return tf.square(errors)
    size = tf.abs(errors)
    return tf.where(size < beta, tf.square(errors) / (2 * beta), size - beta / 2)
