"""What a detector got wrong, one by one: faces missed and false alarms, and of which kind."""

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

NEAR = 0.2  # IoU from which a box means the face beside it
NOTHING, LOOSE, NEIGHBOUR = "nothing there", "box too far off", "its box went to a neighbour"
UNLABELLED, TWICE = "no labelled face there", "second box of a face"
KINDS = (*(f"lost by {net}" for net in NETS), NOTHING, LOOSE, NEIGHBOUR, UNLABELLED, TWICE)


class DetectionError(NamedTuple):
    """One face missed, or one false alarm."""

    picture: Annotation
    found: Faces  # all that was reported on the picture
    box: FloatArray  # (4,) the missed face, or the false alarm
    kind: str
    score: float  # the false alarm's, or that of the box nearest to the missed face; 0: none near
    overlap: float  # IoU of the two: reported box and nearest labelled face
    other: float  # best score that the other weights gave to this place; 0: none

    @property
    def side(self) -> float:
        """Longer side in pixels."""
        return float((self.box[2:] - self.box[:2]).max())


def missed(result: BoxScore, other: BoxScore | None = None) -> list[DetectionError]:
    """The faces that count and were not found; first those that the other weights find.

    The order of the rest follows from the names alone, so that the first are a fair sample.
    """
    every = [
        DetectionError(picture, seen.faces, box, *_miss(box, seen), _best_score(box, beside))
        for picture, seen, match, beside in _rows(result, other)
        for box in picture.boxes[~match.hit(len(picture.boxes)) & ~picture.ignored]
    ]
    return sorted(every, key=lambda m: (-m.other, split_hash(f"{m.picture.key} {m.box.tolist()}")))


def false_alarms(result: BoxScore, other: BoxScore | None = None) -> list[DetectionError]:
    """The false alarms, highest score first."""
    every = [
        DetectionError(
            picture,
            seen.faces,
            seen.faces.boxes[row],
            *_alarm(picture, seen.faces, row, bool(match.face[row] >= 0)),
            _best_score(seen.faces.boxes[row], beside),
        )
        for picture, seen, match, beside in _rows(result, other)
        for row in np.flatnonzero(match.false_alarm).tolist()
    ]
    return sorted(every, key=lambda alarm: -alarm.score)


def _rows(
    result: BoxScore, other: BoxScore | None
) -> Iterator[tuple[Annotation, ImageDetections, Match, Faces]]:
    nothing = Faces(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))
    beside = [one.faces for one in other.seen] if other else [nothing] * len(result.pictures)
    return zip(result.pictures, result.seen, result.matches, beside, strict=True)


def _miss(box: FloatArray, seen: ImageDetections) -> tuple[str, float, float]:
    """Kind, score and overlap of a missed face."""
    overlap = iou(box[None], seen.faces.boxes)[0]
    best = float(overlap.max(initial=0))
    if best < NEAR:
        return _lost_by(box, seen), 0.0, best
    return NEIGHBOUR if best >= MIN_OVERLAP else LOOSE, seen.faces.scores[overlap.argmax()], best


def _lost_by(box: FloatArray, seen: ImageDetections) -> str:
    """The net after which no box is left on the face; one may bring a box nearer again."""
    if not seen.proposals:
        return NOTHING
    passed = [survives(boxes, box[None], at)[0] for at, boxes in enumerate(seen.proposals)]
    return f"lost by {NETS[1 + max(np.flatnonzero(passed), default=-1)]}"


def _alarm(picture: Annotation, found: Faces, row: int, twice: bool) -> tuple[str, float, float]:
    """Kind, score and overlap of a false alarm."""
    best = float(iou(found.boxes[row][None], picture.boxes).max(initial=0))
    kind = TWICE if twice else LOOSE if best >= NEAR else UNLABELLED
    return kind, float(found.scores[row]), best


def _best_score(box: FloatArray, faces: Faces) -> float:
    there = iou(box[None], faces.boxes)[0] >= MIN_OVERLAP
    return float(faces.scores[there].max(initial=0))


def in_spans(mistakes: Sequence[DetectionError]) -> dict[str, list[DetectionError]]:
    """Mistakes by the size of the face or box, in their order; spans without any are left out."""
    spans = {
        size_label(low, high): [m for m in mistakes if low <= m.side < high] for low, high in SPANS
    }
    return {label: within for label, within in spans.items() if within}


def some(
    mistakes: Sequence[DetectionError], count: int, of_one_picture: int
) -> list[DetectionError]:
    """The first `count`, with no more than so many of one picture: a crowd hides the rest."""
    taken: Counter[str] = Counter()
    chosen = []
    for mistake in mistakes:
        taken[mistake.picture.key] += 1
        if taken[mistake.picture.key] <= of_one_picture:
            chosen.append(mistake)
    return chosen[:count]


def count_kinds(mistakes: Sequence[DetectionError]) -> tuple[list[str], list[list[str]]]:
    """A table of how many there are of each kind, in every span of sizes: heads and rows."""
    kinds = [kind for kind in KINDS if any(m.kind == kind for m in mistakes)]
    rows = []
    for label, within in {**in_spans(mistakes), "all": list(mistakes)}.items():
        numbers = Counter(m.kind for m in within)
        rows.append([label, *(str(numbers[kind]) for kind in kinds), str(len(within))])
    return ["longer side, px", *kinds, "all"], rows
