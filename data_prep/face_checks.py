"""Checks of faces as they are read: boxes and landmarks that cannot be what they are taken for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.readers.entries import FaceLabel
from mtcnn_detector.boxes import FloatArray
from mtcnn_detector.errors import UserError

MAX_OFF_CENTRE = 0.35  # of a box's sides, of the median nose
NOSE = slice(4, 6)  # its x y in FaceLabel.landmarks


def corners(faces: Sequence[FaceLabel]) -> FloatArray:
    """Faces of x y w h in pixels -> (N, 4) float32 windows."""
    xywh = np.array([face.box for face in faces], np.float64).reshape(-1, 4)
    return np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]).astype(np.float32)


def refuse_empty(faces: Sequence[FaceLabel], file: Path) -> None:
    """Refuse boxes of another meaning: with them most end before they begin."""
    boxes = [face.box for face in faces if not face.ignored]
    empty = [box for box in boxes if min(box[2:]) <= 0]
    if len(empty) > len(boxes) / 2:
        raise UserError(
            f"{file}: {len(empty)} of {len(boxes)} boxes have no width or height, or end before "
            f"they begin (x y w h of the first: {', '.join(f'{value:g}' for value in empty[0])}): "
            "are sizes taken for corners?"
        )


def check_noses(faces: Sequence[FaceLabel], file: Path) -> str | None:
    """Refuse columns of another meaning: with them most noses lie outside their boxes.

    Returns a sentence where most lie inside, but far from the middle.
    """
    noses = np.array([face.landmarks[NOSE] for face in faces], np.float64).reshape(-1, 2)
    known = np.isfinite(noses).all(axis=1)
    noses, boxes = noses[known], corners(faces)[known]
    inside = (noses >= boxes[:, :2]) & (noses <= boxes[:, 2:])
    if inside.all(axis=1).sum() < len(boxes) / 2:
        raise UserError(
            f"{file}: most noses lie outside the boxes of their faces: are the landmarks those of "
            "these images (not of aligned ones), and the columns those of the format?"
        )
    sizes = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    middle = np.median((noses - boxes[:, :2]) / sizes, axis=0) if len(boxes) else 0.5
    if (np.abs(middle - 0.5) <= MAX_OFF_CENTRE).all():
        return None
    return (
        "warning: most noses lie near the border of their boxes: are boxes and landmarks those of "
        "the same images, and x and y of a box its upper left corner, not its centre?"
    )
