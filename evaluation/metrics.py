"""Figures of weights on a recipe's validation pictures, and what they come from."""

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
from evaluation.detections import Detect, ImageDetections, detect_all
from evaluation.landmark_error import LabelledFace, LandmarkScore
from evaluation.protocol import Detections, GroundTruth, Match, PrecisionRecall
from evaluation.recall import SPANS, size_label
from mtcnn_detector.boxes import longer_sides

Figures = dict[str, str]
LFW_OVERLAP = (
    0.3  # MTFL's boxes are tighter than WIDER's; at 0.5 the box, not the landmarks, decides
)


@dataclass(frozen=True, eq=False)
class BoxScore:
    """How boxes did on one source of N pictures: three lists side by side, and curves."""

    pictures: list[Annotation]
    seen: list[ImageDetections]
    matches: list[Match]
    curves: dict[str, PrecisionRecall]  # "plain", and WIDER's levels where its files are

    @property
    def faces(self) -> int:
        """Faces that count."""
        return sum(int((~picture.ignored).sum()) for picture in self.pictures)

    @property
    def found(self) -> int:
        """How many of them were found."""
        return sum(int(match.found.sum()) for match in self.matches)

    @property
    def false_alarms(self) -> int:
        """Boxes on no face, or on one found before."""
        return sum(int(match.false_alarm.sum()) for match in self.matches)


@dataclass(frozen=True, eq=False)
class LandmarkFigures:
    """How landmarks did on one source of N pictures with one labelled face each."""

    pictures: list[Annotation]
    seen: list[ImageDetections]
    landmarks: LandmarkScore


@dataclass(frozen=True)
class Score:
    """All that one detector did, by source."""

    boxes: dict[str, BoxScore] = field(default_factory=dict)
    landmarks: dict[str, LandmarkFigures] = field(default_factory=dict)


class SizeRow(NamedTuple):
    """The faces of one span of sizes."""

    low: float  # px, longer side
    high: float
    faces: int
    found: int

    @property
    def label(self) -> str:
        """The span in words."""
        return size_label(self.low, self.high)


def score(settings: Settings, detect: Detect, folder: Path) -> Score:
    """Run or resume one detector over all validation sources; detections go to `folder`."""
    sources, root = settings.data.validation, Path(settings.data.folder)
    result = Score()
    for name, pictures in read_sources(root, sources).items():
        seen = detect_all(detect, pictures, folder / f"{name}.jsonl")
        if sources[name].landmarks_only:
            result.landmarks[name] = judge_landmarks(pictures, seen)
        else:
            curves = _official(sources[name], root, seen)
            result.boxes[name] = judge_boxes(pictures, seen, curves)
    return result


def judge_boxes(
    pictures: list[Annotation],
    seen: Mapping[str, ImageDetections],
    official: Mapping[str, PrecisionRecall],
) -> BoxScore:
    """Detections, all that were reported, against labelled boxes at plain IoU 0.5."""
    detections = _detections(seen)
    truths = {p.key: GroundTruth(p.key, p.boxes, p.ignored) for p in pictures}
    return BoxScore(
        pictures,
        [seen[p.key] for p in pictures],
        [protocol.match(detections[p.key], truths[p.key]) for p in pictures],
        {"plain": protocol.average_precision(detections, truths), **official},
    )


def _detections(seen: Mapping[str, ImageDetections]) -> dict[str, Detections]:
    return {key: Detections(one.faces.boxes, one.faces.scores) for key, one in seen.items()}


def _official(
    source: Source, root: Path, seen: Mapping[str, ImageDetections]
) -> dict[str, PrecisionRecall]:
    """WIDER's own protocol, where its files are at hand."""
    if source.wider_ground_truth is None or not _has_official(root / source.wider_ground_truth):
        return {}
    named = {_official_name(key): value for key, value in _detections(seen).items()}
    truths = {
        level: protocol.read_wider_mats(root / source.wider_ground_truth, level)
        for level in protocol.LEVELS
    }
    return {
        level: protocol.evaluate(named, protocol.restrict(every, named))
        for level, every in truths.items()
    }


def _has_official(folder: Path) -> bool:
    """WIDER's pictures come without these files; its other figures need none of them."""
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


def _official_name(key: str) -> str:
    """ "wider/<event>/<picture>.jpg" as WIDER's lists name it."""
    return key.partition("/")[2].rpartition(".")[0]


def judge_landmarks(
    pictures: list[Annotation], seen: Mapping[str, ImageDetections]
) -> LandmarkFigures:
    """Landmarks against the one labelled face of each picture."""
    labelled = [picture for picture in pictures if len(picture.boxes)]
    faces = {p.key: LabelledFace(p.boxes[0], p.landmarks[0]) for p in labelled}
    result = landmark_error.evaluate({key: seen[key].faces for key in faces}, faces, LFW_OVERLAP)
    return LandmarkFigures(labelled, [seen[key] for key in faces], result)


def by_size(result: BoxScore) -> list[SizeRow]:
    """Faces that count and those found, in spans of size that hold any."""
    sides, hit = [], []
    for picture, match in zip(result.pictures, result.matches, strict=True):
        counts = ~picture.ignored
        sides.append(longer_sides(picture.boxes)[counts])
        hit.append(match.hit(len(counts))[counts])
    side, found = np.concatenate(sides), np.concatenate(hit)
    rows = []
    for low, high in SPANS:
        within = (side >= low) & (side < high)
        rows.append(SizeRow(low, high, int(within.sum()), int((found & within).sum())))
    return [row for row in rows if row.faces]


def figures(result: Score) -> Figures:
    """The figures of one detector, by what they mean."""
    told: Figures = {}
    for name, boxes in result.boxes.items():
        told[f"{name}: faces found"] = f"{boxes.found} of {boxes.faces}"
        told[f"{name}: false alarms"] = f"{boxes.false_alarms} on {len(boxes.pictures)} pictures"
        told[f"{name}: AP"] = f"{boxes.curves['plain'].ap:.3f}"
        for level in protocol.LEVELS:
            if level in boxes.curves:
                row = f"{name}: AP {level}, WIDER protocol on these pictures"
                told[row] = f"{boxes.curves[level].ap:.3f}"
    for name, landmarks in ((name, one.landmarks) for name, one in result.landmarks.items()):
        caught = landmarks.faces - len(landmarks.missed)
        told[f"{name}: faces found (IoU {LFW_OVERLAP})"] = f"{caught} of {landmarks.faces}"
        told[f"{name}: landmark NME, of the eye distance"] = f"{100 * landmarks.nme:.2f} %"
        told[f"{name}: failures (NME over 10 %)"] = f"{100 * landmarks.failure_rate:.2f} %"
    return told


def table(columns: Mapping[str, Figures]) -> str:
    """A Markdown table: figures down, weights across."""
    rows = list(dict.fromkeys(row for figures in columns.values() for row in figures))
    lines = ["| | " + " | ".join(columns) + " |", "| --- " * (1 + len(columns)) + "|"]
    for row in rows:
        values = " | ".join(figures.get(row, "") for figures in columns.values())
        lines.append(f"| {row} | {values} |")
    return "\n".join(lines)
