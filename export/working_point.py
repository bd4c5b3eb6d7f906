"""The working point of an export: shifts of the nets' outputs, in the biases of their heads."""

import numpy as np

from configs.settings import ExportSettings
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights.weight_files import TrainedNet


def shifts(name: NetName, settings: ExportSettings) -> dict[str, float]:
    """The shifts of a net that are not 0, by their names in the recipe."""
    found = {"score_shift": settings.score_shift[NETS.index(name)]}
    if name == NETS[-1]:
        found["landmark_shift"] = settings.landmark_shift
    return {key: value for key, value in found.items() if value}


def shifted(trained: TrainedNet, name: NetName, settings: ExportSettings) -> TrainedNet:
    """The net with its class logits and landmarks shifted; the same where nothing is shifted.

    `score_shift` is for detectors with fixed thresholds, `landmark_shift` for those that cut off
    fractions of pixels, as mtcnn 0.1.x does.
    """
    amounts, weights = shifts(name, settings), dict(trained.weights)
    if "score_shift" in amounts:
        half = np.float32(amounts["score_shift"] / 2)
        weights["cls/bias"] = weights["cls/bias"] + np.stack([-half, half])
    if "landmark_shift" in amounts and "landmarks/bias" in weights:
        shift = np.float32(amounts["landmark_shift"])
        weights["landmarks/bias"] = weights["landmarks/bias"] + shift
    return trained._replace(weights=weights)
