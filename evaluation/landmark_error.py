"""Landmark errors against labels: normalised mean error (NME), failure rate, cumulative curve."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.protocol import MIN_OVERLAP, overlaps
from mtcnn_detector.boxes import FloatArray
from mtcnn_detector.cascade import Faces
from mtcnn_detector.errors import UserError

FAILURE = 0.1  # NME above which a face counts as a failure, as a share of the eye distance


@dataclass(frozen=True, eq=False)
class LabelledFace:
    """One labelled face: box (4,) xyxy half-open, landmarks (5, 2), in pixels.

    Landmarks are left eye, right eye, nose, left and right corner of the mouth, each x and y;
    NaN where unknown, the eyes excepted.
    """

    box: FloatArray
    landmarks: FloatArray


@dataclass(frozen=True)
class LandmarkErrors:
    """NME of each face found, by key, in eye distances; and the keys of the missed faces."""

    errors: dict[str, float]
    missed: tuple[str, ...]

    @property
    def faces(self) -> int:
        """Number of labelled faces, found or missed."""
        return len(self.errors) + len(self.missed)

    @property
    def nme(self) -> float:
        """Mean of the errors over the faces found; NaN where none was found."""
        return float(np.mean(list(self.errors.values()))) if self.errors else float("nan")

    @property
    def failure_rate(self) -> float:
        """Share of the faces found whose error exceeds `FAILURE`; NaN where none was found."""
        return 1.0 - float(self.cumulative(np.array([FAILURE]))[0])

    def cumulative(self, limits: FloatArray) -> FloatArray:
        """Share (K,) of the faces found whose error is at most each of `limits` (K,).

        NaN where no face was found.
        """
        if not self.errors:
            return np.full(limits.shape, np.nan)
        ranked = np.sort(list(self.errors.values()))
        share: FloatArray = np.searchsorted(ranked, limits, side="right") / len(ranked)
        return share


def evaluate(
    detections: Mapping[str, Faces],
    faces: Mapping[str, LabelledFace],
    min_overlap: float = MIN_OVERLAP,
) -> LandmarkErrors:
    """Landmark errors of labelled faces.

    Args:
        detections: The detections on the image of each face, by the face's key; a key without an
            entry has none.
        faces: The labelled faces, by key.
        min_overlap: IoU from which a detection is on the face.

    The highest-scoring detection that overlaps the face at IoU `min_overlap` or more counts: a
    user, too, has scores but no labels to choose by. A face without one is missed; it is listed
    separately and has no part in the errors.

    Raises:
        UserError: the labelled eyes of a face coincide, so that its error has no unit; or there
            are detections under a key without a labelled face.
    """
    unlabelled = sorted(detections.keys() - faces.keys())
    if unlabelled:
        raise UserError(
            f"{unlabelled[0]} has no labelled face: pass detections of labelled images only."
        )
    errors: dict[str, float] = {}
    for key, face in faces.items():
        if not eye_distance(face.landmarks):
            raise UserError(
                f"{key}: both eyes are labelled at one place; correct or drop this line."
            )
        landmarks = _landmarks_on(face, detections[key], min_overlap) if key in detections else None
        if landmarks is not None:
            errors[key] = point_error(landmarks, face.landmarks)
    return LandmarkErrors(errors, tuple(key for key in faces if key not in errors))


def point_error(landmarks: FloatArray, labelled: FloatArray) -> float:
    """Mean distance of landmarks (5, 2) from the labelled ones (5, 2), in labelled eye distances.

    Unknown landmarks, which are NaN, have no part in the mean.

    The measure of the MTFL benchmark, which counts errors above a tenth as failures (Zhang et al.,
    "Facial Landmark Detection by Deep Multi-task Learning", ECCV 2014).
    """
    known = np.isfinite(labelled).all(axis=1)
    distances = np.linalg.norm(landmarks[known] - labelled[known], axis=1)
    return float(distances.mean()) / eye_distance(labelled)


def eye_distance(landmarks: FloatArray) -> float:
    """Distance in pixels between the first two of landmarks (5, 2), the eyes."""
    return float(np.linalg.norm(landmarks[0] - landmarks[1]))


def _landmarks_on(face: LabelledFace, detections: Faces, min_overlap: float) -> FloatArray | None:
    overlap = overlaps(detections.boxes, face.box[None])[:, 0]
    on_face = np.flatnonzero(overlap >= min_overlap)
    if not len(on_face):
        return None
    landmarks: FloatArray = detections.landmarks[on_face[detections.scores[on_face].argmax()]]
    return landmarks
