"""Crop sampling: the windows of an image that become training crops; no pixels, no files.

Kinds follow Zhang et al. 2016, section III.B: by IoU with the nearest face a window is negative,
part or positive (`configs.record_settings.LabelThresholds`); landmark windows contain all five
landmarks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.record_settings import LabelThresholds, RecordSettings, SampleType
from data_prep.annotations import Annotation
from mtcnn_detector import boxes, pixels
from mtcnn_detector.boxes import BoolArray, FloatArray, IntArray

NEAR = 1.0  # negatives near a face: shifted by up to so many of its sides
PAIRS = 1 << 16  # of windows and faces compared at a time: a crowd has hundreds of millions
TRIES = 8  # windows drawn for each one wanted: a bound, so that no image takes for ever


class Windows(NamedTuple):
    """Windows of one kind on one image; NaN where a window has no face or no landmarks."""

    places: IntArray  # (N, 4) whole pixels
    faces: FloatArray  # (N, 4) the face of each window
    landmarks: FloatArray  # (N, 5, 2) its landmarks, in the frame of the (rotated) window
    degrees: FloatArray  # (N,) rotation of the window, counter-clockwise

    @staticmethod
    def joined(parts: Sequence["Windows"]) -> "Windows":
        """Concatenate at least one part."""
        return Windows(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Targets:
    """Faces of an image to train on, and faces that are neither positive nor background."""

    faces: FloatArray  # (M, 4)
    landmarks: FloatArray  # (M, 5, 2), NaN where unknown
    weights: FloatArray  # (M,) factor on the number of crops of each face
    ignored: FloatArray  # (K, 4)

    @staticmethod
    def of(
        annotation: Annotation, min_face: int, weights: FloatArray, context: float = 1.0
    ) -> "Targets":
        """Targets of an annotation; faces of a longer side under `min_face` pixels are ignored.

        The others' sides are multiplied by `context`.
        """
        usable = ~annotation.ignored & (boxes.longer_sides(annotation.boxes) >= min_face)
        exact = annotation.boxes.astype(np.float64)
        landmarks = annotation.landmarks[usable].astype(np.float64)
        faces = boxes.scaled(exact[usable], context)
        return Targets(faces, landmarks, weights[usable], exact[~usable])


def scale_weights(sides: FloatArray, balance: float) -> FloatArray:
    """(M,) face sides in pixels -> (M,) weights of mean about 1 that balance the octaves of size.

    `balance` 0 leaves the sizes as they are in the collection, 1 gives every octave of sizes
    the same number of crops; no face counts less than a quarter or more than four times.
    """
    if not len(sides):
        return np.ones(0)
    octave = np.floor(np.log2(np.maximum(sides, 1))).astype(int)
    counts = np.bincount(octave)[octave]
    weights = counts ** -float(balance)
    clipped: FloatArray = np.clip(weights / weights.mean(), 0.25, 4)
    return clipped


def label(
    places: IntArray, targets: Targets, labels: LabelThresholds
) -> tuple[NDArray[np.str_], IntArray]:
    """(N, 4) windows -> (N,) kinds ("" in between or over an ignored face), (N,) nearest faces."""
    rows = max(PAIRS // max(len(targets.faces) + len(targets.ignored), 1), 1)
    starts = range(0, max(len(places), 1), rows)
    blocks = [_label_block(places[i : i + rows], targets, labels) for i in starts]
    kinds, nearest = zip(*blocks, strict=True)
    return np.concatenate(kinds), np.concatenate(nearest)


def _label_block(
    places: IntArray, targets: Targets, labels: LabelThresholds
) -> tuple[NDArray[np.str_], IntArray]:
    exact = places.astype(np.float64)
    # The cascade squares its boxes: a narrow face's best window is the square about it.
    faces = boxes.squared(targets.faces) if labels.squared_faces else targets.faces
    overlap = boxes.iou(exact, faces)
    nearest = overlap.argmax(axis=1) if len(targets.faces) else np.zeros(len(places), int)
    best = overlap.max(axis=1, initial=0)
    hidden = boxes.overlap_of_smaller(exact, targets.ignored).max(axis=1, initial=0)
    negative = (best < labels.negative) & (hidden < labels.ignored)
    conditions = [best >= labels.positive, best >= labels.part, negative]
    return np.select(conditions, ["positive", "part", "negative"], ""), nearest


def sample(
    rng: np.random.Generator,
    height: int,
    width: int,
    targets: Targets,
    records: RecordSettings,
    labels: LabelThresholds,
) -> dict[SampleType, Windows]:
    """Random windows of an image of `height` x `width`: on its faces, near them, anywhere."""
    copies = _copies(rng, records.positives_per_face, targets.weights)
    tight = _around(rng, targets.faces[copies], records.max_shift, records.max_scale)
    copies = _copies(rng, records.parts_per_face, targets.weights)
    loose = _around(rng, targets.faces[copies], 2 * records.max_shift, records.max_scale**2)
    copies = _copies(rng, records.negatives_per_face, targets.weights)
    near = _around(rng, targets.faces[copies], NEAR, 2.0)
    free = label(near, targets, labels)[0] == "negative"
    near = near[first_of_each(copies, free, _per_face_limits(records.negatives_per_face, targets))]
    anywhere = _anywhere(rng, height, width, TRIES * records.negatives_per_image)
    free = label(anywhere, targets, labels)[0] == "negative"
    anywhere = anywhere[free][: records.negatives_per_image]
    return {
        "positive": _per_face("positive", tight, targets, labels, records.positives_per_face),
        "negative": background(np.concatenate([near, anywhere])),
        "part": _per_face("part", loose, targets, labels, records.parts_per_face),
        "landmark": landmark_windows(rng, targets, records),
    }


def landmark_windows(
    rng: np.random.Generator, targets: Targets, records: RecordSettings
) -> Windows:
    """Windows that contain all landmarks of their faces: shifted, scaled and rotated."""
    known = np.isfinite(targets.landmarks).all(axis=(1, 2))
    copies = _copies(rng, records.landmarks_per_face, targets.weights * known, tries=2)
    places = _around(rng, targets.faces[copies], records.max_shift, records.max_scale)
    degrees = rng.uniform(-records.max_rotation, records.max_rotation, len(places))
    landmarks = np.array(
        [
            _rotated(targets.landmarks[face], place, angle)
            for face, place, angle in zip(copies, places, degrees, strict=True)
        ]
    ).reshape(-1, 5, 2)
    rows = first_of_each(
        copies,
        contain_landmarks(places, landmarks),
        _per_face_limits(records.landmarks_per_face, targets),
    )
    faces = np.full((len(rows), 4), np.nan)  # a rotated face has no upright box
    return Windows(places[rows], faces, landmarks[rows], degrees[rows])


def contain_landmarks(places: IntArray, landmarks: FloatArray) -> BoolArray:
    """(N, 4) windows, (N, 5, 2) landmarks -> (N,) whether all five lie inside; NaN never does."""
    exact = places[:, None].astype(np.float64)
    inside = (landmarks >= exact[..., :2]) & (landmarks < exact[..., 2:])
    return np.asarray(inside.all(axis=(1, 2)))


def _rotated(landmarks: FloatArray, place: IntArray, degrees: float) -> FloatArray:
    """(5, 2) landmarks of the image -> (5, 2) in the frame of a window rotated by `degrees`."""
    matrix = pixels.rotation(place, degrees)
    # Its origin is the middle of the first pixel, that of annotations the pixel's corner.
    rotated: FloatArray = (landmarks - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5
    return rotated


def _copies(
    rng: np.random.Generator, per_face: int, weights: FloatArray, tries: int = TRIES
) -> IntArray:
    """Indices of faces, each as often as windows are to be drawn around it."""
    wanted = per_face * weights
    whole = np.floor(wanted + rng.random(len(weights))).astype(int)
    return np.repeat(np.arange(len(weights)), whole * tries)


def _around(
    rng: np.random.Generator, faces: FloatArray, max_shift: float, max_scale: float
) -> IntArray:
    """(N, 4) squares of whole pixels, one about each of (N, 4) faces."""
    sides = faces[:, 2:] - faces[:, :2]
    low, high = sides.min(axis=1, initial=np.inf) / max_scale, sides.max(axis=1, initial=0)
    side = np.exp(rng.uniform(np.log(low), np.log(high * max_scale)))
    shift = rng.uniform(-max_shift, max_shift, (len(faces), 2))
    return _squares((faces[:, :2] + faces[:, 2:]) / 2 + shift * sides, side)


def _anywhere(rng: np.random.Generator, height: int, width: int, count: int) -> IntArray:
    """(count, 4) squares inside the image, sides uniform on a logarithmic scale."""
    smallest, largest = 12.0, float(min(height, width))
    if largest < smallest:
        return np.zeros((0, 4), int)
    side = np.exp(rng.uniform(np.log(smallest), np.log(largest), count))
    room = np.array([width, height]) - side[:, None]
    return _squares(rng.random((count, 2)) * room + side[:, None] / 2, side)


def _squares(centres: FloatArray, sides: FloatArray) -> IntArray:
    whole = np.maximum(np.round(sides), 2)[:, None].astype(int)
    first = np.round(centres - whole / 2).astype(int)
    return np.concatenate([first, first + whole], axis=1)


def _per_face(
    kind: SampleType, places: IntArray, targets: Targets, labels: LabelThresholds, per_face: int
) -> Windows:
    """The first windows of a kind, up to the number that each face may have."""
    kinds, nearest = label(places, targets, labels)
    rows = first_of_each(nearest, kinds == kind, _per_face_limits(per_face, targets))
    return with_faces(places[rows], nearest[rows], targets)


def _per_face_limits(per_face: int, targets: Targets) -> IntArray:
    """(M,) number of windows that each face may have."""
    return np.ceil(per_face * targets.weights).astype(int)


def first_of_each(groups: IntArray, usable: BoolArray, wanted: IntArray) -> IntArray:
    """Rows of the first `wanted[g]` usable members of every group g, from (N,) group numbers."""
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(groups[rows], kind="stable")]
    members = groups[rows]
    place = np.arange(len(rows)) - np.searchsorted(members, members)
    return rows[place < wanted[members]] if len(rows) else rows


def with_faces(places: IntArray, nearest: IntArray, targets: Targets) -> Windows:
    """Upright windows with the faces and landmarks that are nearest to them."""
    return Windows(
        places, targets.faces[nearest], targets.landmarks[nearest], np.zeros(len(places))
    )


def background(places: IntArray) -> Windows:
    """Upright background windows: no box, no landmarks."""
    count = len(places)
    no_landmarks = np.full((count, 5, 2), np.nan)
    return Windows(places, np.full((count, 4), np.nan), no_landmarks, np.zeros(count))
