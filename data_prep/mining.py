"""Hard example mining: the cascade's proposals on an image, labelled by its annotation."""

import numpy as np

from configs.record_settings import LabelThresholds, RecordSettings, SampleType
from data_prep import sampling
from data_prep.sampling import Targets, Windows, contain_landmarks
from mtcnn_detector.boxes import BoolArray, FloatArray, windows_of


def mine(
    rng: np.random.Generator,
    proposed: FloatArray,
    targets: Targets,
    records: RecordSettings,
    labels: LabelThresholds,
) -> dict[SampleType, Windows]:
    """Proposals that become crops, of (N, 4) reported boxes, highest score first.

    Negatives: the `mined_negatives_per_image` with the highest scores. For every face at random:
    up to `mined_per_face` positives, as many parts, and as many windows that contain all its
    landmarks, so that a large face with a hundred proposals does not outweigh the others.
    """
    places = windows_of(proposed).astype(int)
    kinds, nearest = sampling.label(places, targets, labels)
    negatives = np.flatnonzero(kinds == "negative")
    mined: dict[SampleType, Windows] = {
        "negative": sampling.background(places[negatives[: records.mined_negatives_per_image]])
    }
    order = rng.permutation(len(places))
    usable: dict[SampleType, BoolArray] = {
        "positive": kinds == "positive",
        "part": kinds == "part",
        "landmark": (kinds == "positive") | (kinds == "part"),
    }
    if len(targets.faces):
        usable["landmark"] &= contain_landmarks(places, targets.landmarks[nearest])
    share = np.full(len(targets.faces), records.mined_per_face)
    for kind, which in usable.items():
        rows = order[sampling.first_of_each(nearest[order], which[order], share)]
        mined[kind] = sampling.with_faces(places[rows], nearest[rows], targets)
    no_box = np.full_like(mined["landmark"].faces, np.nan)  # landmark crops have no box target
    mined["landmark"] = mined["landmark"]._replace(faces=no_box)
    return mined
