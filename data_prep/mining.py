"""Hard examples: what the nets so far propose on a picture, labelled by its annotation."""

import numpy as np

from configs.settings import LabelThresholds, RecordSettings, SampleType
from data_prep import sampling
from data_prep.sampling import Targets, Windows
from mtcnn_detector.boxes import BoolArray, FloatArray, IntArray, windows_of


def mine(
    rng: np.random.Generator,
    proposed: FloatArray,
    targets: Targets,
    records: RecordSettings,
    labels: LabelThresholds,
) -> dict[SampleType, Windows]:
    """The proposals worth training on, of (N, 4) reported boxes, best first.

    False ones: the highest-scoring first, `mined_negatives_per_image` of them. True ones: any,
    up to `mined_per_face` positives, as many parts, and as many windows that hold all its landmarks
    for every face, so that a large face with a hundred proposals does not outweigh the others.
    """
    places = windows_of(proposed).astype(int)
    kinds, nearest = sampling.label(places, targets, labels)
    false = np.flatnonzero(kinds == "negative")
    mined: dict[SampleType, Windows] = {
        "negative": sampling.about_nothing(places[false[: records.mined_negatives_per_image]])
    }
    order = rng.permutation(len(places))
    usable: dict[SampleType, BoolArray] = {
        "positive": kinds == "positive",
        "part": kinds == "part",
        "landmark": _holds_landmarks(places, nearest, targets)
        & (kinds != "")
        & (kinds != "negative"),
    }
    share = np.full(len(targets.faces), records.mined_per_face)
    for kind, which in usable.items():
        rows = order[sampling.first_of_each(nearest[order], which[order], share)]
        mined[kind] = sampling.about_faces(places[rows], nearest[rows], targets)
    nothing = np.full_like(mined["landmark"].faces, np.nan)  # landmark crops teach landmarks alone
    mined["landmark"] = mined["landmark"]._replace(faces=nothing)
    return mined


def _holds_landmarks(places: IntArray, nearest: IntArray, targets: Targets) -> BoolArray:
    """Whether each of (N, 4) windows holds all five landmarks of its nearest face."""
    if not len(targets.faces):
        return np.zeros(len(places), bool)
    landmarks, exact = (
        targets.landmarks[nearest],
        places[:, None].astype(float),
    )  # NaN is never inside
    holds: BoolArray = np.all(
        (landmarks >= exact[..., :2]) & (landmarks < exact[..., 2:]), axis=(1, 2)
    )
    return holds
