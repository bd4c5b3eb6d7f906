"""Left and right of landmarks: the image's, as the nets learn it, or the labelled person's own."""

from collections.abc import Sequence

import numpy as np

from mtcnn_detector.boxes import FloatArray

EYES, NOSE, MOUTH = [0, 1], 2, [3, 4]
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
