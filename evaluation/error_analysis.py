"""Error analysis of a detector: missed faces and false alarms, each with its kind of error."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data_prep.annotations import Annotation
from data_prep.sources import split_hash
from evaluation.detections import ImageDetections
from evaluation.metrics import BoxScore
from evaluation.protocol import MIN_OVERLAP, Match
from evaluation.recall import SPANS, size_label, survives
from mtcnn_detector.boxes import FloatArray, iou
from mtcnn_detector.cascade import Faces
from mtcnn_detector.net import NETS

NEAR = 0.2  # IoU from which a box is meant for the face beside it
NOTHING, LOOSE, NEIGHBOUR = "nothing there", "box too far off", "its box went to a neighbour"
UNLABELLED, TWICE = "no labelled face there", "second box of a face"
KINDS = (*(f"lost by {net}" for net in NETS), NOTHING, LOOSE, NEIGHBOUR, UNLABELLED, TWICE)


class DetectionError(NamedTuple):
    """One missed face, or one false alarm."""

    annotation: Annotation
    detected: Faces  # everything reported on the image
    box: FloatArray  # (4,) the missed face, or the false alarm
    kind: str
    score: float  # of the false alarm, or of the box nearest to the missed face; 0: none near
    overlap: float  # IoU of the reported box and the nearest labelled face
    other_score: float  # best score that the other weights give to this place; 0: none

    @property
    def side(self) -> float:
        """Longer side in pixels."""
        return float((self.box[2:] - self.box[:2]).max())


def missed_faces(result: BoxScore, other: BoxScore | None = None) -> list[DetectionError]:
    """The counting faces that were not found; first those that the other weights find.

    The rest are ordered by a hash of their names, so that the first few are a fair sample.
    """
    errors = [
        DetectionError(
            annotation,
            detections.faces,
            box,
            *_kind_of_miss(box, detections),
            _best_score(box, others),
        )
        for annotation, detections, match, others in _rows(result, other)
        for box in annotation.boxes[~match.hit(len(annotation.boxes)) & ~annotation.ignored]
    ]
    return sorted(
        errors, key=lambda e: (-e.other_score, split_hash(f"{e.annotation.key} {e.box.tolist()}"))
    )


def false_alarms(result: BoxScore, other: BoxScore | None = None) -> list[DetectionError]:
    """The false alarms, highest score first."""
    errors = [
        DetectionError(
            annotation,
            detections.faces,
            detections.faces.boxes[row],
            *_kind_of_alarm(annotation, detections.faces, row, bool(match.face[row] >= 0)),
            _best_score(detections.faces.boxes[row], others),
        )
        for annotation, detections, match, others in _rows(result, other)
        for row in np.flatnonzero(match.false_alarm).tolist()
    ]
    return sorted(errors, key=lambda error: -error.score)


def _rows(
    result: BoxScore, other: BoxScore | None
) -> Iterator[tuple[Annotation, ImageDetections, Match, Faces]]:
    nothing = Faces(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))
    others = [one.faces for one in other.detections] if other else [nothing] * len(result.matches)
    return zip(result.annotations, result.detections, result.matches, others, strict=True)


def _kind_of_miss(box: FloatArray, detections: ImageDetections) -> tuple[str, float, float]:
    """Kind, score and overlap of a missed face."""
    overlap = iou(box[None], detections.faces.boxes)[0]
    best = float(overlap.max(initial=0))
    if best < NEAR:
        return _lost_by(box, detections), 0.0, best
    score = float(detections.faces.scores[overlap.argmax()])
    return NEIGHBOUR if best >= MIN_OVERLAP else LOOSE, score, best


def _lost_by(box: FloatArray, detections: ImageDetections) -> str:
    """The net after which no box is left on the face; a net may bring a box back onto it."""
    if not detections.proposals:
        return NOTHING
    passed = [survives(boxes, box[None], at)[0] for at, boxes in enumerate(detections.proposals)]
    return f"lost by {NETS[1 + max(np.flatnonzero(passed), default=-1)]}"


def _kind_of_alarm(
    annotation: Annotation, detected: Faces, row: int, duplicate: bool
) -> tuple[str, float, float]:
    """Kind, score and overlap of a false alarm."""
    best = float(iou(detected.boxes[row][None], annotation.boxes).max(initial=0))
    kind = TWICE if duplicate else LOOSE if best >= NEAR else UNLABELLED
    return kind, float(detected.scores[row]), best


def _best_score(box: FloatArray, faces: Faces) -> float:
    there = iou(box[None], faces.boxes)[0] >= MIN_OVERLAP
    return float(faces.scores[there].max(initial=0))


def by_size(errors: Sequence[DetectionError]) -> dict[str, list[DetectionError]]:
    """Errors by the size of the face or box, order kept; spans without errors are left out."""
    spans = {
        size_label(low, high): [e for e in errors if low <= e.side < high] for low, high in SPANS
    }
    return {label: within for label, within in spans.items() if within}


def sample(errors: Sequence[DetectionError], count: int, per_image: int) -> list[DetectionError]:
    """The first `count` errors, at most `per_image` of one image: a crowd would hide the rest."""
    taken: Counter[str] = Counter()
    chosen = []
    for error in errors:
        taken[error.annotation.key] += 1
        if taken[error.annotation.key] <= per_image:
            chosen.append(error)
    return chosen[:count]


def count_kinds(errors: Sequence[DetectionError]) -> tuple[list[str], list[list[str]]]:
    """A table of the number of errors of each kind in each span of sizes: header and rows."""
    kinds = [kind for kind in KINDS if any(error.kind == kind for error in errors)]
    rows = []
    for label, within in {**by_size(errors), "all": list(errors)}.items():
        numbers = Counter(error.kind for error in within)
        rows.append([label, *(str(numbers[kind]) for kind in kinds), str(len(within))])
    return ["longer side, px", *kinds, "all"], rows
