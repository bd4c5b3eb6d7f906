"""Left and right of landmarks: the image's, as the nets learn it, or the labelled person's own."""

from collections.abc import Sequence

import numpy as np

from data_prep.readers.entries import TEN_LANDMARKS
from mtcnn_detector.boxes import FloatArray

EYES, NOSE, MOUTH = [0, 1], 2, [3, 4]
MAX_ASIDE = 0.5  # median distance of noses from the line, in its length from eyes to mouth
MIXED = 0.1  # share of faces of the other sense from which on a source is suspicious


def exchange_if_mirrored(landmarks: Sequence[FloatArray]) -> str | None:
    """Exchange left and right in place, where most faces have them the other way round.

    COCO and others mean the person's own left, which is right in the image. Whether a pair is
    exchanged is told from the sense of rotation from its first point over its second to the rest
    of the face, so that rotated and upside-down faces count as well.

    Args:
        landmarks: (N, 5, 2) of each image, NaN where unknown; changed in place.

    Returns:
        A sentence about what was exchanged or is mixed; None where all is as usual.
    """
    every = np.concatenate([*landmarks, np.zeros((0, 5, 2), np.float32)]).astype(np.float64)
    exchanged, mixed = [], []
    for pair, name in ((EYES, "eyes"), (MOUTH, "mouth corners")):
        sense = _sense(every, pair)
        mirrored, known = (sense < 0).sum(), (sense != 0).sum()
        if mirrored > known / 2:
            for one in landmarks:
                one[:, pair] = one[:, pair[::-1]]
            exchanged.append(f"{mirrored} of {known} left {name}")
        if MIXED * known < mirrored < (1 - MIXED) * known:
            mixed.append(
                f"warning: left and right {name} are mixed: {mirrored} of {known} faces have them "
                "the other way round than the rest."
            )
    if exchanged:
        mixed.append(
            f"{' and '.join(exchanged)} are right of the right ones in the image, being the "
            "person's own left: left and right are exchanged."
        )
    return " ".join(mixed) or None


def note_order(landmarks: Sequence[FloatArray]) -> str | None:
    """A sentence where the points of (N, 5, 2) landmarks are in another order than expected.

    Eyes, nose and mouth of a face lie on a line, seen from the front; of profiles they nearly do.
    """
    every = np.concatenate([*landmarks, np.zeros((0, 5, 2), np.float32)]).astype(np.float64)
    every = every[np.isfinite(every).all(axis=(1, 2))]
    eyes, mouth = every[:, EYES].mean(axis=1), every[:, MOUTH].mean(axis=1)
    down, nose = mouth - eyes, every[:, NOSE] - eyes
    length = np.maximum((down**2).sum(axis=1), 1e-9)
    along = (nose * down).sum(axis=1) / length
    aside = np.abs(down[:, 0] * nose[:, 1] - down[:, 1] * nose[:, 0]) / length
    if not len(every) or (0 < np.median(along) < 1 and np.median(aside) < MAX_ASIDE):
        return None
    return (
        "warning: most noses do not lie between eyes and mouth: the points are taken for "
        f"{TEN_LANDMARKS}, in this order; if theirs is another one, name them in the labels (as "
        "COCO's categories[].keypoints do)."
    )


def _sense(every: FloatArray, pair: list[int]) -> FloatArray:
    """(N, 5, 2) -> (N,) 1 where the pair is in the image's order, -1 where exchanged, else 0."""
    first, second = every[:, pair[0]], every[:, pair[1]]
    middle = (first + second) / 2
    other = every[:, MOUTH if pair == EYES else EYES].mean(axis=1)  # NaN unless both are known
    down = other - middle if pair == EYES else middle - other
    nose = every[:, NOSE] - middle if pair == EYES else middle - every[:, NOSE]
    down = np.where(np.isfinite(down), down, nose)
    down = np.where(np.isfinite(down), down, [0.0, 1.0])  # eyes alone: by x
    across = second - first
    cross = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]
    return np.asarray(np.sign(np.nan_to_num(cross)))
