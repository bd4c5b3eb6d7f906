"""Metrics of one detector on a recipe's validation sources: AP, recall by size, landmark NME."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from configs.settings import Settings, Source
from data_prep.annotations import Annotation
from data_prep.sources import read_sources
from evaluation import landmark_error, protocol
from evaluation.detections import DetectFunction, ImageDetections, detect_all
from evaluation.landmark_error import LabelledFace, LandmarkErrors
from evaluation.protocol import Detections, GroundTruth, Match, PrecisionRecall
from evaluation.recall import SPANS, size_label
from mtcnn_detector.boxes import longer_sides

Figures = dict[str, str]  # name of a metric -> its value as it is printed
# MTFL's boxes are tighter than WIDER's: at 0.5 the box, not the landmarks, would decide.
LANDMARK_OVERLAP = 0.3


@dataclass(frozen=True, eq=False)
class BoxScore:
    """Boxes on one source of N images: three lists of N, and precision-recall curves."""

    annotations: list[Annotation]
    detections: list[ImageDetections]
    matches: list[Match]
    curves: dict[str, PrecisionRecall]  # "plain", and WIDER's levels where its files are present

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


@dataclass(frozen=True, eq=False)
class LandmarkScore:
    """Landmarks on one source of N images with one labelled face each."""

    annotations: list[Annotation]
    detections: list[ImageDetections]
    errors: LandmarkErrors


@dataclass(frozen=True)
class Score:
    """The results of one detector, by source."""

    boxes: dict[str, BoxScore] = field(default_factory=dict)
    landmarks: dict[str, LandmarkScore] = field(default_factory=dict)


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
    """Run or resume a detector over all validation sources; detections are logged in `folder`."""
    sources, root = settings.data.validation, Path(settings.data.folder)
    result = Score()
    for name, annotations in read_sources(root, sources).items():
        detections = detect_all(detect, annotations, folder / f"{name}.jsonl")
        if sources[name].landmarks_only:
            result.landmarks[name] = score_landmarks(annotations, detections)
        else:
            curves = _wider_curves(sources[name], root, detections)
            result.boxes[name] = score_boxes(annotations, detections, curves)
    return result


def score_boxes(
    annotations: list[Annotation],
    detections: Mapping[str, ImageDetections],
    wider_curves: Mapping[str, PrecisionRecall],
) -> BoxScore:
    """Match all detections, by image key, with labelled boxes at IoU 0.5."""
    boxes = _scored_boxes(detections)
    truths = {a.key: GroundTruth(a.key, a.boxes, a.ignored) for a in annotations}
    return BoxScore(
        annotations,
        [detections[annotation.key] for annotation in annotations],
        [protocol.match(boxes[a.key], truths[a.key]) for a in annotations],
        {"plain": protocol.average_precision(boxes, truths), **wider_curves},
    )


def _scored_boxes(detections: Mapping[str, ImageDetections]) -> dict[str, Detections]:
    return {key: Detections(one.faces.boxes, one.faces.scores) for key, one in detections.items()}


def _wider_curves(
    source: Source, root: Path, detections: Mapping[str, ImageDetections]
) -> dict[str, PrecisionRecall]:
    """Curves of WIDER FACE's own protocol, where its ground truth files are present."""
    if source.wider_ground_truth is None:
        return {}
    folder = root / source.wider_ground_truth
    if not _has_ground_truth(folder):
        return {}
    boxes = {_wider_key(key): value for key, value in _scored_boxes(detections).items()}
    truths = {level: protocol.read_wider_mats(folder, level) for level in protocol.LEVELS}
    return {
        level: protocol.evaluate(boxes, protocol.restrict(every, boxes))
        for level, every in truths.items()
    }


def _has_ground_truth(folder: Path) -> bool:
    """WIDER's images come without these files; all other metrics do without them."""
    missing = [
        level for level in protocol.LEVELS if not (folder / f"wider_{level}_val.mat").exists()
    ]
    if missing:
        print(
            f"warning: {folder / f'wider_{missing[0]}_val.mat'} is not there (it is part of WIDER "
            "FACE's `eval_tools` download): going on without the figures of its protocol.",
            file=sys.stderr,
        )
    return not missing


def _wider_key(key: str) -> str:
    """ "wider/<event>/<image>.jpg" -> the image's name in WIDER's lists, "<event>/<image>"."""
    return key.partition("/")[2].rpartition(".")[0]


def score_landmarks(
    annotations: list[Annotation], detections: Mapping[str, ImageDetections]
) -> LandmarkScore:
    """Landmark errors of the one labelled face of each image."""
    labelled = [annotation for annotation in annotations if len(annotation.boxes)]
    faces = {a.key: LabelledFace(a.boxes[0], a.landmarks[0]) for a in labelled}
    detected = {key: detections[key].faces for key in faces}
    errors = landmark_error.evaluate(detected, faces, LANDMARK_OVERLAP)
    return LandmarkScore(labelled, [detections[key] for key in faces], errors)


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


def figures(result: Score) -> Figures:
    """The metrics of one detector, by their names."""
    rows: Figures = {}
    for name, boxes in result.boxes.items():
        rows[f"{name}: faces found"] = f"{boxes.found} of {boxes.faces}"
        rows[f"{name}: false alarms"] = f"{boxes.false_alarms} on {len(boxes.annotations)} images"
        rows[f"{name}: AP"] = f"{boxes.curves['plain'].ap:.3f}"
        for level in protocol.LEVELS:
            if level in boxes.curves:
                row = f"{name}: AP {level}, WIDER protocol on these images"
                rows[row] = f"{boxes.curves[level].ap:.3f}"
    for name, errors in ((name, one.errors) for name, one in result.landmarks.items()):
        found = errors.faces - len(errors.missed)
        rows[f"{name}: faces found (IoU {LANDMARK_OVERLAP})"] = f"{found} of {errors.faces}"
        rows[f"{name}: landmark NME, of the eye distance"] = f"{100 * errors.nme:.2f} %"
        rows[f"{name}: failures (NME over 10 %)"] = f"{100 * errors.failure_rate:.2f} %"
    return rows


def table(columns: Mapping[str, Figures]) -> str:
    """A Markdown table: metrics down, weights across."""
    header, rows = as_rows(columns)
    lines = ["| | " + " | ".join(columns) + " |", "| --- " * len(header) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def as_rows(columns: Mapping[str, Figures]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of metrics (down) and weights (across)."""
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    rows = [[name, *(figures.get(name, "") for figures in columns.values())] for name in names]
    return ["", *columns], rows
