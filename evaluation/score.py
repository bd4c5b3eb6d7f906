"""Figures of weights on a recipe's validation pictures, beside those of other weights."""

import sys
from collections.abc import Mapping
from pathlib import Path

from configs import stages
from configs.settings import Detector, Settings, Source
from data_prep.annotations import Annotation
from data_prep.sources import read_sources
from evaluation import landmarks, protocol
from evaluation.detect import Detect, detect_all
from evaluation.landmarks import LabelledFace, PointDetections
from evaluation.protocol import Detections, GroundTruth
from models.cascade import Faces

Figures = dict[str, str]
LFW_OVERLAP = 0.3  # MTFL's boxes are tighter than WIDER's; at 0.5 the box, not the points, decides


def score(settings: Settings, detect: Detect, folder: Path) -> Figures:
    """All figures of one detector over all validation sources; detections go to `folder`."""
    sources = settings.data.validation
    figures: Figures = {}
    root = Path(settings.data.folder)
    for name, pictures in read_sources(root, sources).items():
        found = detect_all(detect, pictures, folder / f"{name}.jsonl")
        if sources[name].points_only:
            figures |= _points(name, pictures, found)
        else:
            figures |= _boxes(name, sources[name], root, pictures, found, settings)
    return figures


def _boxes(
    name: str,
    source: Source,
    root: Path,
    pictures: list[Annotation],
    found: Mapping[str, Faces],
    settings: Settings,
) -> Figures:
    detections = {key: Detections(f.boxes, f.scores) for key, f in found.items()}
    truths = {p.key: GroundTruth(p.key, p.boxes, p.ignored) for p in pictures}
    counts = protocol.count_at(detections, truths, settings.detector.thresholds[-1])
    figures = {
        f"{name}: faces found": f"{counts.found} of {counts.faces}",
        f"{name}: false alarms": f"{counts.false_alarms} on {len(pictures)} pictures",
        f"{name}: AP": f"{protocol.average_precision(detections, truths).ap:.3f}",
    }
    if source.official is None or not _has_official(root / source.official):
        return figures
    named = {_official_name(key): value for key, value in detections.items()}
    for level in protocol.LEVELS:
        official = protocol.read_wider_mats(root / source.official, level)
        curve = protocol.evaluate(named, protocol.restrict(official, named))
        figures[f"{name}: AP {level}, WIDER protocol on these pictures"] = f"{curve.ap:.3f}"
    return figures


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


def _points(name: str, pictures: list[Annotation], found: Mapping[str, Faces]) -> Figures:
    detections = {key: PointDetections(f.boxes, f.scores, f.points) for key, f in found.items()}
    faces = {p.key: LabelledFace(p.boxes[0], p.points[0]) for p in pictures if len(p.boxes)}
    result = landmarks.evaluate(detections, faces, LFW_OVERLAP)
    return {
        f"{name}: faces found (IoU {LFW_OVERLAP})": f"{result.faces - len(result.missed)} of "
        f"{result.faces}",
        f"{name}: landmark NME, of the eye distance": f"{100 * result.nme:.2f} %",
        f"{name}: failures (NME over 10 %)": f"{100 * result.failure_rate:.2f} %",
    }


def table(columns: Mapping[str, Figures]) -> str:
    """A Markdown table: figures down, weights across."""
    rows = list(dict.fromkeys(row for figures in columns.values() for row in figures))
    lines = ["| | " + " | ".join(columns) + " |", "| --- " * (1 + len(columns)) + "|"]
    for row in rows:
        values = " | ".join(figures.get(row, "") for figures in columns.values())
        lines.append(f"| {row} | {values} |")
    return "\n".join(lines)


def log_folder(run: Path, weights: Path, detector: Detector, runtime: str) -> Path:
    """Where detections of these weights at these settings lie: one folder each."""
    thresholds = "-".join(f"{t:g}" for t in detector.thresholds)
    settings = f"{runtime}-{detector.min_face_size}-{detector.scale_factor:g}-{thresholds}"
    return run / "evaluation" / f"{stages.digest([weights])[:12]}-{settings}"
