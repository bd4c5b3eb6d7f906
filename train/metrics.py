"""Validation figures that mean something for a cascade, from a net's outputs on crops."""

import numpy as np
from numpy.typing import NDArray

from configs.record_settings import SAMPLE_TYPES
from configs.train_settings import TrainSettings
from mtcnn_detector.boxes import FRAMES, FloatArray, areas
from mtcnn_detector.net import NetName
from train.losses import pointwise_loss

MIN_EYE_DISTANCE = 0.1  # of the window's side
Arrays = dict[str, NDArray[np.floating]]


def recall_at(
    positives: FloatArray, negatives: FloatArray, false_positive_rate: float
) -> tuple[float, float]:
    """Share of positives found where that share of negatives passes, and the threshold there."""
    if not len(positives) or not len(negatives):
        return float("nan"), float("nan")
    threshold = float(np.quantile(negatives, 1 - false_positive_rate))
    return float((positives > threshold).mean()), threshold


def mean_iou(outputs: FloatArray, targets: FloatArray, name: NetName, sides: FloatArray) -> float:
    """Mean IoU of predicted and true boxes, both given as (N, 4) offsets in the net's frame."""
    if not len(outputs):
        return float("nan")
    inset, unit = FRAMES[name](sides)
    # Windows as unit squares: the first corner is measured from `inset`, the last from 1.
    start = np.concatenate([inset + np.zeros((len(outputs), 2)), np.ones((len(outputs), 2))], 1)
    found, true = start + outputs * unit, start + targets * unit
    first, last = np.maximum(found[:, :2], true[:, :2]), np.minimum(found[:, 2:], true[:, 2:])
    shared = np.maximum(last - first, 0).prod(axis=1)
    union = areas(found) + areas(true) - shared
    return float((shared / np.maximum(union, 1e-9)).mean())


def normalised_mean_error(outputs: FloatArray, targets: FloatArray) -> float:
    """NME: mean distance of (N, 10) landmarks from the true ones, in eye distances.

    Faces in profile, with less than `MIN_EYE_DISTANCE` between the eyes, have no such measure.
    """
    found, true = (p.reshape(-1, 2, 5).transpose(0, 2, 1) for p in (outputs, targets))
    eyes = np.linalg.norm(true[:, 0] - true[:, 1], axis=1)
    distances = np.linalg.norm(found - true, axis=2).mean(axis=1)
    frontal = eyes >= MIN_EYE_DISTANCE
    return float((distances[frontal] / eyes[frontal]).mean()) if frontal.any() else float("nan")


def summary(
    outputs: Arrays,
    targets: Arrays,
    name: NetName,
    train: TrainSettings,
) -> dict[str, float]:
    """All figures over a validation set.

    Args:
        outputs: cls (N,) probability, box (N, 4), landmarks (N, 10) if there are any.
        targets: kind (N,), box (N, 4), landmarks (N, 10), side (N, 1).
        name: decides the frame of the boxes.
        train: how `loss` joins class, box and landmarks; the rate at which recall is taken.

    Returns:
        recall, threshold (where recall is taken), iou, nme, loss; NaN for what has no crop.
    """
    of_kind = {kind: targets["kind"] == i for i, kind in enumerate(SAMPLE_TYPES)}
    faces, background = of_kind["positive"], of_kind["negative"]
    boxed, pointed = faces | of_kind["part"], of_kind["landmark"]
    face = outputs["cls"]
    recall, threshold = recall_at(face[faces], face[background], train.false_positive_rate)
    right = np.concatenate([face[faces], 1 - face[background]])
    boxes = _distances(outputs["box"][boxed], targets["box"][boxed], train.box_beta)
    terms = [-np.log(np.maximum(right, 1e-7)), boxes]
    figures = {
        "recall": recall,
        "threshold": threshold,
        "iou": mean_iou(outputs["box"][boxed], targets["box"][boxed], name, targets["side"][boxed]),
    }
    if "landmarks" in outputs:
        found, true = outputs["landmarks"][pointed], targets["landmarks"][pointed]
        terms.append(_distances(found, true, train.landmark_beta))
        figures["nme"] = normalised_mean_error(found, true)
    weighted = zip(train.loss_weights, terms, strict=False)
    figures["loss"] = float(sum(w * term.mean() for w, term in weighted if len(term)))
    return figures


def _distances(outputs: FloatArray, targets: FloatArray, beta: float | None) -> FloatArray:
    distances: FloatArray = pointwise_loss(outputs - targets, beta).numpy().sum(axis=1)
    return distances
