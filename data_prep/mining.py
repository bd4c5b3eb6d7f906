"""Hard examples: what the nets so far propose on a picture, labelled by its annotation."""

import numpy as np

from configs.settings import Kind, Labels, Records
from data_prep import sampling
from data_prep.sampling import Targets, Windows
from models.boxes import FloatArray, windows_of


def mine(
    rng: np.random.Generator,
    proposed: FloatArray,
    targets: Targets,
    records: Records,
    labels: Labels,
) -> dict[Kind, Windows]:
    """The proposals worth training on, of (N, 4) reported boxes, best first.

    False ones: the highest-scoring first, `mined_negatives_per_image` of them. True ones: any,
    up to `mined_per_face` positives and as many parts for every face, so that a large face with
    a hundred proposals does not outweigh the others.
    """
    places = windows_of(proposed).astype(int)
    kinds, nearest = sampling.label(places, targets, labels)
    false = np.flatnonzero(kinds == "negative")
    mined: dict[Kind, Windows] = {
        "negative": sampling.about_nothing(places[false[: records.mined_negatives_per_image]])
    }
    order = rng.permutation(len(places))
    for kind in ("positive", "part"):
        rows = order[
            sampling.first_of_each(
                nearest[order],
                kinds[order] == kind,
                np.full(len(targets.faces), records.mined_per_face),
            )
        ]
        mined[kind] = sampling.about_faces(places[rows], nearest[rows], targets)
    return mined
