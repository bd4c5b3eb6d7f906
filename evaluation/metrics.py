"""Metrics of one detector on a recipe's validation sources: AP, recall by size, landmark NME."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.settings import Settings
from data_prep.annotations import Annotation
from evaluation import landmark_error, protocol, wider_ground_truth
from evaluation.data_sets import DataSet, data_sets, file_stem
from evaluation.detections import DetectFunction, ImageDetections, detect_all
from evaluation.landmark_error import LabelledFace, LandmarkErrors
from evaluation.protocol import MIN_OVERLAP, Detections, GroundTruth, Match, PrecisionRecall
from evaluation.recall import SPANS, size_label
from evaluation.wording import FACE
from mtcnn_detector.boxes import longer_sides

# MTFL's boxes are tighter than WIDER's: at 0.5 the box, not the landmarks, would decide.
LANDMARK_OVERLAP = 0.3
MIN_EYE_DISTANCE = 0.1  # of the box's longer side; below it a face is in profile


@dataclass(frozen=True, eq=False)
class BoxScore:
    """Boxes on one source of N images: three lists of N, and precision-recall curves."""

    annotations: list[Annotation]
    detections: list[ImageDetections]
    matches: list[Match]
    curves: dict[str, PrecisionRecall]  # "plain", and WIDER's levels where its files are present
    mean_ap: float  # AP50-95

    @property
    def faces(self) -> int:
        """Number of faces that count."""
        return sum(int((~annotation.ignored).sum()) for annotation in self.annotations)

    @property
    def found(self) -> int:
        """Number of these faces that were found."""
        return sum(int(match.found.sum()) for match in self.matches)

    @property
    def false_alarms(self) -> int:
        """Number of boxes on no face, or on a face that another box has found."""
        return sum(int(match.false_alarm.sum()) for match in self.matches)


class SingleFaces(NamedTuple):
    """Recall on a data set with one labelled face per image, whoever else is on it."""

    images: int
    faces: int
    found: int
    min_overlap: float  # IoU from which a detection is on a face


class LabelledLandmarks(NamedTuple):
    """One face with labelled landmarks, and the detections on its image."""

    annotation: Annotation
    face: int  # its index in the annotation
    detections: ImageDetections

    @property
    def key(self) -> str:
        """A name of the face, unique in a data set."""
        return f"{self.annotation.key} {self.face}"


@dataclass(frozen=True, eq=False)
class LandmarkScore:
    """Landmarks of the faces of one data set whose eyes are labelled."""

    faces: list[LabelledLandmarks]
    errors: LandmarkErrors
    min_overlap: float  # IoU from which a detection is on a face


@dataclass(frozen=True)
class Score:
    """The results of one detector, by data set."""

    boxes: dict[str, BoxScore] = field(default_factory=dict)
    single_faces: dict[str, SingleFaces] = field(default_factory=dict)  # where no boxes count
    landmarks: dict[str, LandmarkScore] = field(default_factory=dict)
    without_landmarks: list[str] = field(default_factory=list)  # data sets whose faces got none
    object: str = FACE  # what is detected, in words

    @property
    def images(self) -> dict[str, int]:
        """The number of images of each data set."""
        counts = {name: len(boxes.annotations) for name, boxes in self.boxes.items()}
        return counts | {name: single.images for name, single in self.single_faces.items()}


class SizeRow(NamedTuple):
    """Recall of the faces in one span of sizes."""

    low: float  # px, longer side
    high: float
    faces: int
    found: int

    @property
    def label(self) -> str:
        """The span in words."""
        return size_label(self.low, self.high)


def score(settings: Settings, detect: DetectFunction, folder: Path) -> Score:
    """Run or resume a detector over all data sets; detections are logged in `folder`."""
    result = Score(object=settings.data.object)
    for name, data in data_sets(settings).items():
        detections = detect_all(detect, data.annotations, folder / f"{file_stem(name)}.jsonl")
        if data.has_boxes:
            curves = _wider_curves(data, detections)
            result.boxes[name] = score_boxes(data.annotations, detections, curves)
        else:
            result.single_faces[name] = score_single_faces(data.annotations, detections)
        overlap = MIN_OVERLAP if data.has_boxes else LANDMARK_OVERLAP
        landmarks = score_landmarks(data.annotations, detections, overlap)
        if landmarks is not None:
            result.landmarks[name] = landmarks
        if without_landmarks(detections):
            result.without_landmarks.append(name)
    return result


def without_landmarks(detections: Mapping[str, ImageDetections]) -> bool:
    """Whether faces are found, and none of them with landmarks."""
    found = [one.faces.landmarks for one in detections.values() if len(one.faces.landmarks)]
    return bool(found) and not any(np.isfinite(landmarks).any() for landmarks in found)


def score_boxes(
    annotations: list[Annotation],
    detections: Mapping[str, ImageDetections],
    wider_curves: Mapping[str, PrecisionRecall],
) -> BoxScore:
    """Match all detections, by image key, with labelled boxes at IoU 0.5."""
    boxes = scored_boxes(detections)
    truths = {a.key: GroundTruth(a.boxes, a.ignored) for a in annotations}
    return BoxScore(
        annotations,
        [detections[annotation.key] for annotation in annotations],
        [protocol.match(boxes[a.key], truths[a.key]) for a in annotations],
        {"plain": protocol.average_precision(boxes, truths), **wider_curves},
        protocol.mean_average_precision(boxes, truths),
    )


def scored_boxes(detections: Mapping[str, ImageDetections]) -> dict[str, Detections]:
    """The boxes and scores of detections, by image key, as `protocol` takes them."""
    return {key: Detections(one.faces.boxes, one.faces.scores) for key, one in detections.items()}


def _wider_curves(
    data: DataSet, detections: Mapping[str, ImageDetections]
) -> dict[str, PrecisionRecall]:
    """Curves of WIDER FACE's own protocol, where its ground truth files are present."""
    if data.wider_ground_truth is None:
        return {}
    curves = wider_ground_truth.curves(data.wider_ground_truth, scored_boxes(detections))
    return {str(level): curve for level, curve in curves.items()}


def score_single_faces(
    annotations: list[Annotation], detections: Mapping[str, ImageDetections]
) -> SingleFaces:
    """How many of the labelled faces that count any detection is on."""
    hits = [
        protocol.overlaps(detections[a.key].faces.boxes, a.boxes[~a.ignored]).max(axis=0, initial=0)
        >= LANDMARK_OVERLAP
        for a in annotations
    ]
    faces = sum(len(hit) for hit in hits)
    return SingleFaces(len(annotations), faces, sum(map(np.sum, hits)), LANDMARK_OVERLAP)


def score_landmarks(
    annotations: list[Annotation],
    detections: Mapping[str, ImageDetections],
    min_overlap: float = LANDMARK_OVERLAP,
) -> LandmarkScore | None:
    """Landmark errors of all faces that count and whose eyes are labelled apart.

    Returns:
        None where there is no such face, or where the detector gives no landmarks.
    """
    faces = [
        LabelledLandmarks(annotation, int(face), detections[annotation.key])
        for annotation in annotations
        for face in np.flatnonzero(_has_landmarks(annotation))
    ]
    known = [np.isfinite(face.detections.faces.landmarks).ravel() for face in faces]
    if not faces or (np.concatenate(known).size and not np.concatenate(known).any()):
        return None
    errors = landmark_error.evaluate(
        {face.key: face.detections.faces for face in faces},
        {
            face.key: LabelledFace(
                face.annotation.boxes[face.face], face.annotation.landmarks[face.face]
            )
            for face in faces
        },
        min_overlap,
    )
    return LandmarkScore(faces, errors, min_overlap)


def _has_landmarks(annotation: Annotation) -> NDArray[np.bool_]:
    """(N,) whether a face counts and has labelled eyes that are not in profile, one over another.

    The error is measured in eye distances, so it has no meaning without them.
    """
    eyes = np.linalg.norm(annotation.landmarks[:, 0] - annotation.landmarks[:, 1], axis=1)
    apart = (eyes > 0) & (eyes >= MIN_EYE_DISTANCE * longer_sides(annotation.boxes))
    known: NDArray[np.bool_] = apart & ~annotation.ignored
    return known


def recall_by_size(result: BoxScore) -> list[SizeRow]:
    """Recall of the faces that count, for each span of sizes that holds any."""
    sides, hits = [], []
    for annotation, match in zip(result.annotations, result.matches, strict=True):
        counts = ~annotation.ignored
        sides.append(longer_sides(annotation.boxes)[counts])
        hits.append(match.hit(len(counts))[counts])
    side, found = np.concatenate(sides), np.concatenate(hits)
    rows = []
    for low, high in SPANS:
        within = (side >= low) & (side < high)
        rows.append(SizeRow(low, high, int(within.sum()), int((found & within).sum())))
    return [row for row in rows if row.faces]
