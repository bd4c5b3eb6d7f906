"""Which windows of a picture become training crops; no pixels and no files here.

Kinds follow Zhang et al. 2016, section III.B: by IoU with the nearest face a window is negative,
part or positive (`configs.settings.Labels`); landmark windows hold all five landmarks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.settings import LabelThresholds, RecordSettings, SampleType
from data_prep.annotations import Annotation
from mtcnn_detector import boxes, pixels
from mtcnn_detector.boxes import BoolArray, FloatArray, IntArray

NEAR = 1.0  # negatives near a face: shifted by up to so many of its sides
PAIRS = 1 << 16  # of windows and faces compared at a time: a crowd has hundreds of millions
TRIES = 8  # windows drawn for each one wanted; a bound, so no picture can hold us up


class Windows(NamedTuple):
    """Windows of one kind on one picture; NaN where a window has no face or no landmarks."""

    places: IntArray  # (N, 4) whole pixels
    faces: FloatArray  # (N, 4) the face that each window is about
    landmarks: FloatArray  # (N, 5, 2) its landmarks as they lie in the (turned) window's frame
    degrees: FloatArray  # (N,) how far the window is turned

    @staticmethod
    def joined(parts: Sequence["Windows"]) -> "Windows":
        """One after the other; at least one part."""
        return Windows(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Targets:
    """What of an annotation may be trained on."""

    faces: FloatArray  # (M, 4)
    landmarks: FloatArray  # (M, 5, 2), NaN where unknown
    weights: FloatArray  # (M,) how many times the usual number of crops a face gets
    ignored: FloatArray  # (K, 4) neither faces nor background

    @staticmethod
    def of(annotation: Annotation, min_face: int, weights: FloatArray) -> "Targets":
        """Faces under `min_face` pixels join the ignored ones."""
        usable = ~annotation.ignored & (boxes.longer_sides(annotation.boxes) >= min_face)
        exact = annotation.boxes.astype(np.float64)
        landmarks = annotation.landmarks[usable].astype(np.float64)
        return Targets(exact[usable], landmarks, weights[usable], exact[~usable])


def scale_weights(sides: FloatArray, balance: float) -> FloatArray:
    """(M,) face sides in pixels -> (M,) weights of mean about 1 that even out the octaves.

    `balance` 0 leaves the sizes as they are in the collection, 1 gives every octave of sizes
    the same number of crops; no face counts less than a quarter or more than four times.
    """
    if not len(sides):
        return np.ones(0)
    octave = np.floor(np.log2(np.maximum(sides, 1))).astype(int)
    counts = np.bincount(octave)[octave]
    weights = counts ** -float(balance)
    even: FloatArray = np.clip(weights / weights.mean(), 0.25, 4)
    return even


def label(
    places: IntArray, targets: Targets, labels: LabelThresholds
) -> tuple[NDArray[np.str_], IntArray]:
    """(N, 4) windows -> (N,) kinds ("" for in between or ignored) and (N,) nearest faces."""
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
    background = (best < labels.negative) & (hidden < labels.ignored)
    conditions = [best >= labels.positive, best >= labels.part, background]
    return np.select(conditions, ["positive", "part", "negative"], ""), nearest


def sample(
    rng: np.random.Generator,
    height: int,
    width: int,
    targets: Targets,
    records: RecordSettings,
    labels: LabelThresholds,
) -> dict[SampleType, Windows]:
    """Draw a picture's windows at random: around its faces, near them, and anywhere."""
    copies = _copies(rng, records.positives_per_face, targets.weights)
    close = _around(rng, targets.faces[copies], records.max_shift, records.max_scale)
    copies = _copies(rng, records.parts_per_face, targets.weights)
    loose = _around(rng, targets.faces[copies], 2 * records.max_shift, records.max_scale**2)
    copies = _copies(rng, records.negatives_per_face, targets.weights)
    near = _around(rng, targets.faces[copies], NEAR, 2.0)
    free = label(near, targets, labels)[0] == "negative"
    near = near[first_of_each(copies, free, _share(records.negatives_per_face, targets))]
    anywhere = _anywhere(rng, height, width, TRIES * records.negatives_per_image)
    free = label(anywhere, targets, labels)[0] == "negative"
    anywhere = anywhere[free][: records.negatives_per_image]
    return {
        "positive": _per_face("positive", close, targets, labels, records.positives_per_face),
        "negative": about_nothing(np.concatenate([near, anywhere])),
        "part": _per_face("part", loose, targets, labels, records.parts_per_face),
        "landmark": landmark_windows(rng, targets, records),
    }


def landmark_windows(
    rng: np.random.Generator, targets: Targets, records: RecordSettings
) -> Windows:
    """Windows that hold all landmarks of their faces: shifted, scaled and turned."""
    known = np.isfinite(targets.landmarks).all(axis=(1, 2))
    copies = _copies(rng, records.landmarks_per_face, targets.weights * known, tries=2)
    places = _around(rng, targets.faces[copies], records.max_shift, records.max_scale)
    degrees = rng.uniform(-records.max_rotation, records.max_rotation, len(places))
    landmarks = np.array(
        [
            _turned(targets.landmarks[face], place, turn)
            for face, place, turn in zip(copies, places, degrees, strict=True)
        ]
    ).reshape(-1, 5, 2)
    exact = places[:, None].astype(np.float64)
    inside = np.all((landmarks >= exact[..., :2]) & (landmarks < exact[..., 2:]), axis=(1, 2))
    rows = first_of_each(copies, inside, _share(records.landmarks_per_face, targets))
    faces = np.full((len(rows), 4), np.nan)  # a turned face has no upright box
    return Windows(places[rows], faces, landmarks[rows], degrees[rows])


def _turned(landmarks: FloatArray, place: IntArray, degrees: float) -> FloatArray:
    matrix = pixels.rotation(place, degrees)
    # It counts from the middle of the first pixel, annotations from that pixel's corner.
    turned: FloatArray = (landmarks - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5
    return turned


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
    """One square of whole pixels about each of (N, 4) faces."""
    sides = faces[:, 2:] - faces[:, :2]
    low, high = sides.min(axis=1, initial=np.inf) / max_scale, sides.max(axis=1, initial=0)
    side = np.exp(rng.uniform(np.log(low), np.log(high * max_scale)))
    shift = rng.uniform(-max_shift, max_shift, (len(faces), 2))
    return _squares((faces[:, :2] + faces[:, 2:]) / 2 + shift * sides, side)


def _anywhere(rng: np.random.Generator, height: int, width: int, count: int) -> IntArray:
    """Squares inside the picture, their sides even over the octaves."""
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
    """The first windows of a kind, up to each face's share of them."""
    kinds, nearest = label(places, targets, labels)
    rows = first_of_each(nearest, kinds == kind, _share(per_face, targets))
    return about_faces(places[rows], nearest[rows], targets)


def _share(per_face: int, targets: Targets) -> IntArray:
    """How many windows each face may have."""
    return np.ceil(per_face * targets.weights).astype(int)


def first_of_each(groups: IntArray, usable: BoolArray, wanted: IntArray) -> IntArray:
    """Rows of the first `wanted[g]` usable members of every group g."""
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(groups[rows], kind="stable")]
    members = groups[rows]
    place = np.arange(len(rows)) - np.searchsorted(members, members)
    return rows[place < wanted[members]] if len(rows) else rows


def about_faces(places: IntArray, nearest: IntArray, targets: Targets) -> Windows:
    """Windows with the faces, and the landmarks, that they are about."""
    return Windows(
        places, targets.faces[nearest], targets.landmarks[nearest], np.zeros(len(places))
    )


def about_nothing(places: IntArray) -> Windows:
    """Background windows."""
    count = len(places)
    nothing = np.full((count, 5, 2), np.nan)
    return Windows(places, np.full((count, 4), np.nan), nothing, np.zeros(count))
