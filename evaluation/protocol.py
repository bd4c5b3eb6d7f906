"""WIDER FACE's evaluation protocol and plain average precision: boxes and scores into a curve."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtcnn_detector.boxes import FloatArray, iou
from mtcnn_detector.errors import UserError

MIN_OVERLAP = 0.5
OVERLAPS = tuple(np.arange(50, 100, 5) / 100)  # COCO's: 0.50, 0.55, ..., 0.95
WIDER_BORDER = 1.0  # the official tool measures a side as x2 - x1 + 1, with x2 = x1 + width
WIDER_THRESHOLDS = 1.0 - np.arange(1, 1001) / 1000.0


@dataclass(frozen=True, eq=False)
class Detections:
    """The output of a detector on one image: boxes (N, 4) xyxy half-open in pixels, scores (N,).

    Raises:
        ValueError: the shapes disagree, or a number is not finite.
    """

    boxes: FloatArray
    scores: FloatArray

    def __post_init__(self) -> None:
        shapes = self.boxes.shape, self.scores.shape
        finite = np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()
        if shapes != ((self.scores.size, 4), (self.scores.size,)) or not finite:
            raise ValueError(f"expected finite (N, 4) boxes, (N,) scores but got shapes {shapes}")


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The labelled faces of one image.

    boxes (M, 4) xyxy half-open in pixels; ignored (M,) bool: faces that neither count nor hurt.
    """

    boxes: FloatArray
    ignored: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Match:
    """The result of each detection of one image.

    face (N,): index of the overlapped face, -1 for none; found (N,) bool: the first on a face that
    counts; false_alarm (N,) bool: on no face, or on one found before. On an ignored face: neither.
    """

    face: NDArray[np.intp]
    found: NDArray[np.bool_]
    false_alarm: NDArray[np.bool_]

    def hit(self, faces: int) -> NDArray[np.bool_]:
        """(M,) bool: which of the image's so many faces were found."""
        return np.isin(np.arange(faces), self.face[self.found])


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """A curve over falling thresholds: three arrays (K,), and the area under its envelope.

    `thresholds` are scores, in WIDER's protocol normalised ones. Where nothing is reported
    precision is set to 1, which does not change `ap`.
    """

    precision: FloatArray
    recall: FloatArray
    ap: float
    thresholds: FloatArray

    def best_f1(self) -> tuple[float, float]:
        """The highest F1 (harmonic mean of precision and recall) and its threshold; 0, NaN: none.

        Of equal ones the highest threshold.
        """
        total = self.precision + self.recall
        f1 = np.divide(
            2 * self.precision * self.recall, total, out=np.zeros(total.shape), where=total > 0
        )
        best = int(f1.argmax()) if f1.size else -1
        found = best >= 0 and f1[best] > 0
        return (float(f1[best]), float(self.thresholds[best])) if found else (0.0, float("nan"))


def evaluate(
    detections: Mapping[str, Detections], truths: Mapping[str, GroundTruth]
) -> PrecisionRecall:
    """WIDER FACE's protocol on the images of `truths`; an image without an entry has no detections.

    After the official evaluation tool (Yang et al., "WIDER FACE: A Face Detection Benchmark",
    CVPR 2016, `eval_tools`): scores are scaled to [0, 1] by the lowest and the highest of all
    images passed; precision and recall are read at the 1000 thresholds 0.999, 0.998, ..., 0;
    AP is the area under the precision envelope, as in PASCAL VOC since 2010. Sides are measured
    one pixel longer (`WIDER_BORDER`), which makes 0.5 a little easier for small faces.

    Raises:
        UserError: detections of an image that is not in `truths`, or no face that counts.
    """
    pool = _pool(_normalised(detections), truths, WIDER_BORDER)
    return _curve(*pool, WIDER_THRESHOLDS)


def average_precision(
    detections: Mapping[str, Detections],
    truths: Mapping[str, GroundTruth],
    min_overlap: float = MIN_OVERLAP,
) -> PrecisionRecall:
    """Plain AP at an IoU: as `evaluate`, but half-open boxes and every score is a threshold.

    Raises:
        UserError: as `evaluate`.
    """
    found, false_alarms, faces = _pool(detections, truths, min_overlap=min_overlap)
    thresholds = np.unique(np.concatenate([found, false_alarms]))[::-1]
    return _curve(found, false_alarms, faces, thresholds)


def mean_average_precision(
    detections: Mapping[str, Detections], truths: Mapping[str, GroundTruth]
) -> float:
    """AP50-95: the mean of the plain AP at the ten IoUs of `OVERLAPS`, as in COCO's evaluation."""
    return float(np.mean([average_precision(detections, truths, at).ap for at in OVERLAPS]))


def match(
    detections: Detections,
    truth: GroundTruth,
    border: float = 0.0,
    min_overlap: float = MIN_OVERLAP,
) -> Match:
    """Assign each detection, best score first, to the face of highest IoU from `min_overlap` on.

    As in the official tool a detection has no second choice: one whose best face is taken is a
    false alarm, one whose best face is ignored is neither.
    """
    count = len(detections.scores)
    face = np.full(count, -1, dtype=np.intp)
    if count and len(truth.boxes):
        overlap = overlaps(detections.boxes, truth.boxes, border)
        face = np.where(overlap.max(axis=1) >= min_overlap, overlap.argmax(axis=1), -1)
    on_ignored = np.append(truth.ignored, False)[face]  # -1 reads the appended False
    order = np.argsort(-detections.scores, kind="stable")
    candidates = order[((face >= 0) & ~on_ignored)[order]]
    _, first = np.unique(face[candidates], return_index=True)
    found = np.zeros(count, dtype=np.bool_)
    found[candidates[first]] = True
    return Match(face, found, ~found & ~on_ignored)


def overlaps(boxes: FloatArray, faces: FloatArray, border: float = 0.0) -> FloatArray:
    """Intersection over union of boxes (N, 4) with faces (M, 4), as (N, M).

    `border` is added to every side before measuring; boxes without area overlap nothing.
    """
    longer = np.array([0, 0, border, border])
    return iou(boxes + longer, faces + longer)


def restrict(truths: Mapping[str, GroundTruth], keys: Iterable[str]) -> dict[str, GroundTruth]:
    """The ground truth of the images named.

    Raises:
        UserError: an image has no ground truth.
    """
    wanted = list(keys)
    unknown = [key for key in wanted if key not in truths]
    if unknown:
        raise UserError(
            f"{unknown[0]} has no ground truth: pass detections of annotated images only."
        )
    return {key: truths[key] for key in wanted}


def _normalised(detections: Mapping[str, Detections]) -> dict[str, Detections]:
    every = np.concatenate([np.zeros(0), *(image.scores for image in detections.values())])
    if not every.size:
        return dict(detections)
    least, span = every.min(), np.ptp(every) or 1.0
    return {key: Detections(d.boxes, (d.scores - least) / span) for key, d in detections.items()}


def _pool(
    detections: Mapping[str, Detections],
    truths: Mapping[str, GroundTruth],
    border: float = 0.0,
    min_overlap: float = MIN_OVERLAP,
) -> tuple[FloatArray, FloatArray, int]:
    """Over all images: sorted scores of found faces, of false alarms; number of faces."""
    known = restrict(truths, detections)
    faces = sum(int((~truth.ignored).sum()) for truth in truths.values())
    if not faces:
        raise UserError("no face counts in these images: give images with labelled faces.")
    matches = [
        (d.scores, match(d, known[key], border, min_overlap)) for key, d in detections.items()
    ]
    found = np.concatenate([np.zeros(0), *(scores[match.found] for scores, match in matches)])
    alarms = np.concatenate(
        [np.zeros(0), *(scores[match.false_alarm] for scores, match in matches)]
    )
    return np.sort(found), np.sort(alarms), faces


def _curve(
    found: FloatArray, false_alarms: FloatArray, faces: int, thresholds: FloatArray
) -> PrecisionRecall:
    hits, misfires = (s.size - np.searchsorted(s, thresholds) for s in (found, false_alarms))
    reported = hits + misfires
    precision = np.divide(hits, reported, out=np.ones(hits.shape), where=reported > 0)
    recall = hits / faces
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    ap = float((np.diff(recall, prepend=0.0) * envelope).sum())
    return PrecisionRecall(precision, recall, ap, thresholds)
